# SPDX-License-Identifier: Apache-2.0
"""Clients and servers that break off wherever they can, and a look at what they leave behind.

abuse.py serve ADDRESS LAB   servers: PORT HTTP/1, +1 HTTP/2, +2 HTTP/1 in TLS, +3 TLS that breaks, +4 an HTTP proxy
abuse.py break KIND COUNT    so many connections of a kind, each broken off at a random point
abuse.py whole COUNT         so many requests at once to each HTTP service: prints how many were answered with 200"""
import asyncio
import collections
import os
import random
import socket
import ssl
import struct
import sys

PORT = 7500
ADDRESS = '203.0.113.13'
HOSTS = {'h1': PORT, 'h2': PORT + 1, 'tls': PORT + 2, 'badtls': PORT + 3, 'limited': PORT + 5, 'mirrored': PORT + 6,
         'retried': PORT + 7, 'db': 7520}
PATIENCE = 1  # then a server breaks off: a client that has half closed waits for its answer
PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
draw = random.Random(int(os.environ.get('SEED', '1')))


def frame(kind, flags, stream, payload=b''):
    return struct.pack('!I', len(payload))[1:] + bytes([kind, flags]) + struct.pack('!I', stream) + payload


def literal(name, value):
    return b'\x00' + bytes([len(name)]) + name + bytes([len(value)]) + value


def break_off(writer):
    """A RST, or a FIN."""
    if draw.random() < 0.7:
        raw = writer.get_extra_info('socket')
        try:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        except OSError:
            pass
        writer.transport.abort()
    else:
        writer.close()


# ---- servers

OK = b'HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n'
ANSWERS = [OK, OK, OK[:30], OK[:-1], b'', b'nonsense\r\n\r\n', b'HTTP/1.1 100 Continue\r\n\r\n' * 50 + OK, OK + OK, OK + b'x' * 70000,
           b'HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n', b'HTTP/1.1 200 OK\r\n\r\nto the end',
           b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel',
           b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nok\n\r\n0\r\na: b\r\n\r\n',
           b'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello',
           b'HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n' + b'x' * 300000, b'HTTP/1.1 200 OK\r\nx: ' + b'y' * 100000,
           b'HTTP/1.1 204 No Content\r\n\r\n', b'HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nok\n']


async def http1(reader, writer):
    try:
        while True:
            head = await asyncio.wait_for(reader.readuntil(b'\r\n\r\n'), PATIENCE)
            if b' /whole' in head:
                await asyncio.sleep(0.15)
                writer.write(OK)
                continue
            await asyncio.sleep(draw.choice((0, 0, 0.01, 0.05)))
            writer.write(draw.choice(ANSWERS))
            await writer.drain()
            if draw.random() < 0.4:
                break
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError):
        pass
    break_off(writer)


def h2_answers(stream):
    ok = b'\x88'
    return [frame(1, 5, stream, ok), frame(1, 5, stream, ok), frame(3, 0, stream, struct.pack('!I', draw.choice((0, 1, 7, 8)))),
            frame(1, 4, stream, ok) + frame(0, 1, stream, b'ok\n'), frame(1, 4, stream, ok) + frame(0, 0, stream, b'x' * 9000),
            frame(1, 4, stream, ok) + frame(0, 0, stream, b'ok\n') + frame(1, 5, stream, literal(b'grpc-status', b'0')),
            frame(7, 0, 0, struct.pack('!II', draw.choice((0, stream)), 0)), b'', frame(1, 4, stream, b'\xff\xff\xff'),
            frame(5, 4, stream, struct.pack('!I', 2) + b'\x82\x86\x84'), frame(0, 1, stream, b'data first'),
            frame(1, 4, stream, literal(b':status', b'100')) * 40 + frame(1, 5, stream, ok), frame(8, 0, stream, struct.pack('!I', 0)),
            frame(1, 5, stream, ok + literal(b'content-length', b'9')), frame(1, 5, stream, ok + literal(b'a\r\nb', b'c')),
            frame(4, 0, 0, struct.pack('!HI', 4, draw.choice((0, 1 << 31, 100)))) + frame(1, 5, stream, ok), os.urandom(50)]


async def http2(reader, writer):
    try:
        await reader.readexactly(len(PREFACE))
        writer.write(frame(4, 0, 0, struct.pack('!HI', 3, draw.choice((1, 5, 100)))))
        while True:
            head = await asyncio.wait_for(reader.readexactly(9), PATIENCE)
            payload = await reader.readexactly(int.from_bytes(head[:3], 'big'))
            stream = int.from_bytes(head[5:], 'big')
            if head[3] == 4 and not head[4] & 1:
                writer.write(frame(4, 1, 0))
            if head[3] != 1:
                continue
            if b'whole' in payload or b'\x85\x63\xc4\xe7\xa0\xbf' in payload:
                writer.write(frame(1, 5, stream, b'\x88'))
                continue
            writer.write(draw.choice(h2_answers(stream)))
            if draw.random() < 0.15:
                break
    except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
        pass
    break_off(writer)


async def bad_tls(reader, writer):
    try:
        await reader.read(2000)
        writer.write(draw.choice((b'', b'\x16\x03\x03\x40\x00' + b'x' * 16384, b'\x15\x03\x03\x00\x02\x02\x28', b'HTTP/1.1 200 OK\r\n\r\n',
                                  b'\x16\x03\x03\x00\x04\x02\x00')))
        await asyncio.sleep(draw.choice((0, 0.01, 0.1)))
    except OSError:
        pass
    break_off(writer)


async def proxy(reader, writer):
    try:
        await reader.readuntil(b'\r\n\r\n')
        writer.write(draw.choice((b'HTTP/1.1 200 OK\r\n\r\nhello', b'HTTP/1.1 200 OK\r\n\r\n', b'HTTP/1.1 403 No\r\n\r\n', b'', b'HTTP/1.1 2',
                                  b'HTTP/1.1 200 OK\r\nx: ' + b'y' * 100000, b'HTTP/1.1 100 Continue\r\n\r\n' * 100)))
        await asyncio.wait_for(reader.read(100), 0.05)
    except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
        pass
    break_off(writer)


async def serve(address, lab):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(lab + '/tls.pem', lab + '/tls.key')
    await asyncio.start_server(http1, address, PORT, backlog=1000)
    await asyncio.start_server(http2, address, PORT + 1, backlog=1000)
    await asyncio.start_server(http1, address, PORT + 2, ssl=context, backlog=1000)
    await asyncio.start_server(bad_tls, address, PORT + 3, backlog=1000)
    await asyncio.start_server(proxy, address, PORT + 4, backlog=1000)
    print('ready', flush=True)
    await asyncio.Event().wait()


# ---- clients

def host_of(kind):
    return kind.encode() + b'.example.com'


def request1(kind):
    host = b'Host: ' + host_of(kind) + b'\r\n'
    return draw.choice((b'GET / HTTP/1.1\r\n' + host + b'\r\n', (b'GET / HTTP/1.1\r\n' + host + b'\r\n') * 3,
                        b'POST / HTTP/1.1\r\n' + host + b'content-length: 50000\r\n\r\n' + b'x' * 30000,
                        b'POST / HTTP/1.1\r\n' + host + b'transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
                        b'GET / HTTP/1.1\r\n' + host + b'connection: upgrade\r\nupgrade: websocket\r\n\r\n',
                        b'GET / HTTP/1.1\r\n' + host + b'connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n',
                        b'HEAD / HTTP/1.1\r\n' + host + b'\r\n', b'GET / HTTP/1.1\r\n' + host + b'expect: 100-continue\r\n'))


def head2(kind, more=b'', method=b'\x82', path=b'\x84'):
    return method + b'\x86' + path + b'\x01' + bytes([len(host_of(kind))]) + host_of(kind) + more


def stream2(kind, stream):
    head = head2(kind)
    return draw.choice((frame(1, 5, stream, head), frame(1, 5, stream, head) + frame(3, 0, stream, struct.pack('!I', 8)),
                        frame(1, 4, stream, head2(kind, b'', b'\x83')) + frame(0, 1, stream, b'x' * 9000),
                        frame(1, 4, stream, head2(kind, b'', b'\x83')) + frame(0, 0, stream, b'x' * 9000),
                        frame(1, 4, stream, head2(kind, b'', b'\x83')) + frame(0, 0, stream, b'x') + frame(1, 5, stream, literal(b'a', b'b')),
                        frame(1, 5, stream, head) + frame(8, 0, stream, struct.pack('!I', 0)),
                        frame(1, 5, stream, head2(kind, literal(b'connection', b'close'))), frame(1, 5, stream, head + b'\x41'),
                        frame(1, 4, stream, head2(kind, literal(b'content-length', b'5'), b'\x83')) + frame(0, 1, stream, b'x' * 9),
                        frame(1, 0, stream, head) + frame(9, 4, stream, literal(b'a', b'b' * 100))))


def request2(kind):
    streams = draw.randrange(1, 12)
    window = draw.choice((0, 1, 65535))
    return PREFACE + frame(4, 0, 0, struct.pack('!HI', 4, window)) + b''.join(stream2(kind, 1 + 2 * i) for i in range(streams))


def bytes_of(kind):
    if kind == 'db':
        return draw.choice((b'hello', b'', b'x' * 100000))
    return request1(kind) if draw.random() < 0.5 else request2(kind)


async def broken(kind):
    try:
        reader, writer = await asyncio.open_connection(ADDRESS if kind != 'db' else '203.0.113.77', HOSTS[kind])
    except OSError:
        return
    try:
        wire = bytes_of(kind)
        if draw.random() < 0.2:
            wire = wire[:draw.randrange(len(wire) + 1)]
        writer.write(wire)
        if draw.random() < 0.8:
            await asyncio.sleep(draw.random() * draw.choice((0.002, 0.02, 0.1)))
        if draw.random() < 0.5:
            await asyncio.wait_for(reader.read(draw.choice((1, 100, 100000))), 0.1)
    except (OSError, asyncio.TimeoutError):
        pass
    break_off(writer)


async def at_most(many, makers):
    gate = asyncio.Semaphore(many)

    async def one(make):
        async with gate:
            return await make()
    return await asyncio.gather(*(one(make) for make in makers))


async def whole1(kind):
    try:
        reader, writer = await asyncio.open_connection(ADDRESS, HOSTS[kind])
        writer.write(b'GET /whole HTTP/1.1\r\nHost: ' + host_of(kind) + b'\r\n\r\n')
        line = await asyncio.wait_for(reader.readline(), 5)
        writer.close()
        return line[9:12].decode()
    except (OSError, asyncio.TimeoutError) as error:
        return repr(error)


async def whole(count):
    for kind in ('h1', 'h2', 'tls', 'limited', 'mirrored', 'retried'):
        answers = collections.Counter(await asyncio.gather(*(whole1(kind) for _ in range(count))))
        print(kind, ' '.join('%s*%d' % pair for pair in sorted(answers.items())))


if __name__ == '__main__':
    if sys.argv[1] == 'serve':
        asyncio.run(serve(*sys.argv[2:]))
    elif sys.argv[1] == 'break':
        asyncio.run(at_most(100, [lambda: broken(sys.argv[2])] * int(sys.argv[3])))
    else:
        asyncio.run(whole(int(sys.argv[2])))
