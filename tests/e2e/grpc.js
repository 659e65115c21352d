// SPDX-License-Identifier: Apache-2.0
// HTTP/2 and gRPC by hand, without a library for either: a server, and a client that says what came on each stream.
//
//	node grpc.js serve ADDRESS PORT
//	node grpc.js call ADDRESS PORT HOST PATH [name=value ...]   one request; a line for each header, message and the end
//	node grpc.js many ADDRESS PORT HOST PATH COUNT [BYTES]      as many at once; how many ended well
//	node grpc.js chat ADDRESS PORT HOST PATH                    each message waits for the answer to the one before
//	node grpc.js cancel ADDRESS PORT HOST PATH                  resets its stream once the head of the answer is there
//
// A path says what the server does: /echo answers each message with itself, /status/N/TIMES ends with grpc-status N in a
// head for that many requests, /late waits a second, /refuse/TIMES resets with REFUSED_STREAM, /goaway says goodbye with
// its answer, /seen tells which streams were reset, /size tells how long the request's body was, /trailer/N ends with
// grpc-status N behind a message, /length has both a Content-Length and a trailer, and is no gRPC.
'use strict';
const http2 = require('http2');
const {HTTP2_HEADER_STATUS: STATUS, NGHTTP2_REFUSED_STREAM: REFUSED, NGHTTP2_CANCEL: CANCEL} = http2.constants;
const [command, address, port, host, path, ...rest] = process.argv.slice(2);

const message = (text) => {
	const frame = Buffer.alloc(5 + Buffer.byteLength(text));
	frame.writeUInt32BE(Buffer.byteLength(text), 1);
	frame.write(text, 5);
	return frame;
};

// Calls back with each whole message of a stream.
const onMessages = (stream, callback) => {
	let left = Buffer.alloc(0);
	stream.on('data', (bytes) => {
		left = Buffer.concat([left, bytes]);
		while (left.length >= 5 && left.length >= 5 + left.readUInt32BE(1)) {
			const end = 5 + left.readUInt32BE(1);
			callback(left.toString('utf8', 5, end));
			left = left.subarray(end);
		}
	});
};

const GRPC = {[STATUS]: 200, 'content-type': 'application/grpc'};
const times = {}, seen = [];

const answerWith = (stream, status, texts) => {
	stream.respond(GRPC, {waitForTrailers: true});
	stream.on('wantTrailers', () => stream.sendTrailers({'grpc-status': String(status)}));
	texts.forEach((text) => stream.write(message(text)));
	stream.end();
};

const serveStream = (stream, headers) => {
	const [, action, first, second] = headers[':path'].split('/');
	const count = times[headers[':path']] = (times[headers[':path']] || 0) + 1;
	stream.on('error', () => {});
	stream.on('close', () => stream.rstCode && seen.push(`${action} ${stream.rstCode}`));
	if (action === 'echo') {
		stream.respond(GRPC, {waitForTrailers: true});
		stream.on('wantTrailers', () => stream.sendTrailers({'grpc-status': '0', 'x-attempt': headers['x-envoy-attempt-count'] || '-'}));
		onMessages(stream, (text) => stream.write(message(text)));
		stream.on('end', () => stream.end());
	} else if (action === 'status' && count <= Number(second)) {
		stream.respond({...GRPC, 'grpc-status': first, 'grpc-message': 'as asked'}, {endStream: true});
	} else if (action === 'reset') {
		stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
	} else if (action === 'refuse' && count <= Number(first)) {
		stream.close(REFUSED);
	} else if (action === 'late') {
		setTimeout(() => stream.destroyed || answerWith(stream, 0, ['late']), 1000);
	} else if (action === 'goaway') {
		answerWith(stream, 0, ['goodbye']);
		stream.session.close();
	} else if (action === 'seen') {
		answerWith(stream, 0, [seen.join(',')]);
	} else if (action === 'size') {
		let size = 0;
		stream.on('data', (bytes) => { size += bytes.length; });
		stream.on('end', () => answerWith(stream, 0, [`size ${size}`]));
	} else if (action === 'trailer') {
		answerWith(stream, Number(first), ['behind']);
	} else if (action === 'length') {
		stream.respond({[STATUS]: 200, 'content-type': 'text/plain', 'content-length': '4'}, {waitForTrailers: true});
		stream.on('wantTrailers', () => stream.sendTrailers({'x-asked': headers['content-length'] || '-'}));
		stream.end('body');
	} else if (action === 'open') { // an answer without an end
		stream.respond(GRPC);
		stream.write(message('begun'));
	} else {
		answerWith(stream, 0, [`${action} attempt ${headers['x-envoy-attempt-count']} te ${headers.te}`]);
	}
};

const fields = (more) => ({':method': 'POST', ':scheme': 'http', ':authority': host, ':path': path, te: 'trailers',
	'content-type': 'application/grpc', ...more});

const show = (what, headers) => Object.keys(headers).forEach((name) => console.log(`${what} ${name}: ${headers[name]}`));

let session;

const follow = (stream) => {
	stream.on('response', (headers) => show('head', headers));
	stream.on('trailers', (headers) => show('trailer', headers));
	stream.on('error', (error) => console.log(`error ${error.code}`));
	stream.on('close', () => {
		console.log(`end ${stream.rstCode}`);
		session.close();
	});
};

const calls = {
	call: () => {
		const stream = session.request(fields(Object.fromEntries(rest.map((field) => field.split('=')))));
		follow(stream);
		onMessages(stream, (text) => console.log(`message ${text}`));
		stream.end(message('hello'));
	},
	chat: () => {
		const stream = session.request(fields({}));
		const words = ['one', 'two', 'three'];
		follow(stream);
		stream.write(message(words.shift()));
		onMessages(stream, (text) => {
			console.log(`message ${text}`);
			if (words.length)
				stream.write(message(words.shift()));
			else
				stream.end();
		});
	},
	cancel: () => {
		const stream = session.request(fields({}));
		follow(stream);
		onMessages(stream, (text) => {
			console.log(`message ${text}`);
			stream.close(CANCEL);
		});
		stream.write(message('hello'));
	},
	many: () => {
		const count = Number(rest[0]), body = Buffer.alloc(Number(rest[1] || 5));
		let good = 0, ended = 0;
		for (let i = 0; i < count; i++) {
			const stream = session.request(fields({}));
			stream.on('trailers', (headers) => { good += headers['grpc-status'] === '0'; });
			stream.on('error', (error) => console.log(`error ${error.code}`));
			stream.on('close', () => {
				if (++ended === count) {
					console.log(`good ${good} of ${count}`);
					session.close();
				}
			});
			stream.resume();
			stream.end(body);
		}
	},
};

if (command === 'serve') {
	const server = http2.createServer();
	let sessions = 0;
	server.on('session', () => console.log(`sessions ${++sessions}`));
	server.on('stream', serveStream);
	server.listen(Number(port), address);
} else {
	session = http2.connect(`http://${address}:${port}`);
	session.on('error', (error) => console.log(`session error ${error.code}`));
	session.on('goaway', (code) => console.log(`goaway ${code}`));
	calls[command]();
	setTimeout(() => process.exit(3), 8000).unref();
}
