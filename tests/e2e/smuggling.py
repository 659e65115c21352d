# SPDX-License-Identifier: Apache-2.0
"""Requests that two readers could frame in two ways, and what arrives of them behind sluice.

smuggling.py record FILE ADDRESS PORT  a server that keeps the bytes of each connection, a line of hexadecimal digits each
smuggling.py send FILE ADDRESS PORT    sends each case, whole, in two parts and byte by byte; FILE gets what was answered
smuggling.py judge RECORDED ANSWERED   each case was answered and arrived as it must; of what arrived there is one reading"""
import asyncio
import itertools
import random
import re
import socket
import sys
import time

GOOD, EVIL = b'recorder.example.com', b'evil.example.com'
H = b'Host: ' + GOOD + b'\r\n'
CHUNKED = b'Transfer-Encoding: chunked\r\n'
SMUGGLED = b'GET /evil HTTP/1.1\r\nHost: ' + EVIL + b'\r\n\r\n'
# The path of each target begins with the number of its case and sending, which stands for %d here.
NEXT = b'GET /%d/next HTTP/1.1\r\n' + H + b'\r\n'


def get(fields=b'', line=b'GET /%d/a HTTP/1.1', host=H):
    return line + b'\r\n' + host + fields + b'\r\n'


def post(fields=b'', body=b'', line=b'POST /%d/a HTTP/1.1'):
    return get(fields, line) + body


def length(body):
    return b'Content-Length: %d\r\n' % len(body)


def chunk(body):
    return b'%x\r\n%s\r\n' % (len(body), body)


END = b'0\r\n\r\n'

# (name, bytes, the statuses that come back, the last part of the targets that arrive, each with its body)
CASES = []


def case(name, wire, statuses, *arrives):
    CASES.append((name, wire, statuses, [(a, b'') if isinstance(a, str) else a for a in arrives]))


def refused(name, wire, statuses='400'):
    """Neither it nor the request behind it arrives (of a body that breaks, the head may)."""
    case(name, wire + NEXT, statuses)


# ---- pipelines
case('a pair', get() + NEXT, '200 200', 'a', 'next')
case('a pair, the second forbidden', get() + SMUGGLED, '200 502', 'a')
case('a pair, the first forbidden', SMUGGLED + NEXT, '502 200', 'next')
case('a pair in HTTP/1.0', get(b'Connection: keep-alive\r\n', b'GET /%d/a HTTP/1.0') + SMUGGLED, '200 502', 'a')
case('empty lines before', b'\r\n\r\n' + get() + NEXT, '200 200', 'a', 'next')
# ---- lengths
case('a request in a body', post(length(SMUGGLED), SMUGGLED) + NEXT, '200 200', ('a', SMUGGLED), 'next')
case('a request in the body of a GET', get(length(SMUGGLED)) + SMUGGLED + NEXT, '200 200', ('a', SMUGGLED), 'next')
case('a request in the body of a HEAD', get(length(SMUGGLED), b'HEAD /%d/a HTTP/1.1') + SMUGGLED + NEXT, '200 200', ('a', SMUGGLED), 'next')
case('a request behind a body', post(length(b'x'), b'x') + SMUGGLED, '200 502', ('a', b'x'))
case('leading zeros', post(b'Content-Length: 005\r\n', b'hello') + NEXT, '200 200', ('a', b'hello'), 'next')
case('CL named by Connection', post(b'Connection: Content-Length\r\n' + length(SMUGGLED), SMUGGLED) + NEXT, '200 200', ('a', SMUGGLED), 'next')
for value in (b'+5', b'-5', b'0x5', b'5,5', b'5, 6', b'5 5', b'', b'5\x0b', b'5;x', b'5.0', b'9223372036854775808', b'99999999999999999999'):
    refused('CL ' + repr(value), post(b'Content-Length: ' + value + b'\r\n', b'hello'))
for two in (b'5', b'6'):
    refused('two CL', post(length(b'hello') + b'Content-Length: ' + two + b'\r\n', b'hello'))
refused('CL with a blank', post(b'Content-Length : 5\r\n', b'hello'))
refused('CL with a NUL', post(b'Content-Length\0: 5\r\n', b'hello'))
# ---- both
refused('CL.TE', post(length(END + SMUGGLED) + CHUNKED, END + SMUGGLED))
refused('TE.CL', post(CHUNKED + b'Content-Length: 4\r\n', chunk(SMUGGLED) + END))
refused('TE in HTTP/1.0', post(CHUNKED, END, b'POST /%d/a HTTP/1.0'))
# ---- chunks
case('a request in a chunk', post(CHUNKED, chunk(SMUGGLED) + END) + NEXT, '200 200', ('a', SMUGGLED), 'next')
case('a request behind chunks', post(CHUNKED, END) + SMUGGLED, '200 502', 'a')
case('TE in capitals, with tabs', post(b'TRANSFER-ENCODING:\tCHUNKED \t\r\n', chunk(b'hello') + END) + NEXT, '200 200', ('a', b'hello'), 'next')
case('TE named by Connection', post(b'Connection: Transfer-Encoding\r\n' + CHUNKED, chunk(SMUGGLED) + END) + NEXT, '200 200', ('a', SMUGGLED), 'next')
for value in (b'xchunked', b'chunked, identity', b'identity, chunked', b'chunked, chunked', b'gzip, chunked', b'chunked;q=1', b'"chunked"', b'', b'\x0bchunked',
              b'chunked\x0b', b'chunked\0', b'identity'):
    refused('TE ' + repr(value), post(b'Transfer-Encoding: ' + value + b'\r\n', chunk(SMUGGLED) + END))
for two in (b'identity', b'chunked', b'x'):
    refused('two TE', post(CHUNKED + b'Transfer-Encoding: ' + two + b'\r\n', END))
    refused('two TE', post(b'Transfer-Encoding: ' + two + b'\r\n' + CHUNKED, END))
for hidden in (b'Transfer-Encoding : chunked\r\n', b' Transfer-Encoding: chunked\r\n', b'X: y\r\n Transfer-Encoding: chunked\r\n', b'X: y\r\n\tz\r\n',
               b'X: y\nTransfer-Encoding: chunked\r\n', b'X: y\rTransfer-Encoding: chunked\r\n', b'Transfer-Encoding:\n chunked\r\n',
               b'Transfer-Encoding\r\n: chunked\r\n', b'\xa0Transfer-Encoding: chunked\r\n', b'Transfer\x0bEncoding: chunked\r\n', b': chunked\r\n', b'X\r\n'):
    refused('hidden TE ' + repr(hidden), post(length(b'hello') + hidden, b'hello'))
    refused('hidden TE ' + repr(hidden), post(hidden, END))
case('extensions', post(CHUNKED, b'5;a=b;c="d e"\r\nhello\r\n0;x\r\n\r\n') + NEXT, '200 200', ('a', b'hello'), 'next')
case('sizes with zeros, in capitals', post(CHUNKED, b'000A\r\nhellohello\r\n00\r\n\r\n') + NEXT, '200 200', ('a', b'hellohello'), 'next')
for size in (b'', b' 5', b'5 ', b'5 ;a', b'5\t', b'+5', b'-5', b'0x5', b'5,', b'g', b'5\x0b', b'5;a\0b', b'5;a\nb', b'5;a\rb', b'fffffffffffffffff', b'8000000000000000', b'100000005', b'80000005',
             b'00000000000000005', b'"5"'):
    refused('size ' + repr(size), post(CHUNKED, size + b'\r\nhello\r\n' + END))
for bad in (b'5\nhello\r\n', b'5\rhello\r\n', b'5\r\nhello\n', b'5\r\nhello\r', b'5\r\nhelloX\r\n', b'5\r\nhello', b'6\r\nhello\r\n'):
    refused('chunk ' + repr(bad), post(CHUNKED, bad + END))
case('trailers', post(CHUNKED, chunk(b'hello') + b'0\r\nX-T: 1\r\n\r\n') + NEXT, '200 200', ('a', b'hello'), 'next')
for trailer in (b'Content-Length: 5', b'transfer-encoding: chunked', b'Host: ' + EVIL, b'X-T : 1', b' X-T: 1', b'X-T: 1\nY: 2', b'X-T: 1\r\n folded', b'X-T', b'X-T: \0'):
    refused('trailer ' + repr(trailer), post(CHUNKED, chunk(b'hello') + b'0\r\n' + trailer + b'\r\n\r\n'))
refused('an end with LF alone', post(CHUNKED, b'0\r\n\n'))
# ---- lines
refused('LF alone everywhere', get().replace(b'\r\n', b'\n'))
refused('LF alone before the end', get(b'\n')[:-2])
refused('CR alone in a value', get(b'X: a\rHost: ' + EVIL + b'\r\n'))
refused('CR alone in the request line', get(line=b'GET /%d/a HTTP/1.1\rX: y'))
refused('NUL in a value', get(b'X: a\0b\r\n'))
refused('NUL in a name', get(b'X\0: a\r\n'))
refused('NUL in the target', get(line=b'GET /%d/a\0b HTTP/1.1'))
refused('a folded first line', get(host=b' ' + H))
refused('a folded host', get(host=b'Host: ' + GOOD + b'\r\n .' + EVIL + b'\r\n'))
for line in (b'GET  /%d/a HTTP/1.1', b'GET /%d/a  HTTP/1.1', b'GET /%d/a HTTP/1.1 ', b'GET\t/%d/a HTTP/1.1', b'GET /%d/a\tHTTP/1.1', b'GET /%d/a b HTTP/1.1', b'get /%d/a HTTP/1.1',
             b'GET /%d/a HTTP/1.x', b'GET /%d/a HTTP/1.10', b'GET /%d/a HTTP/0.9', b'GET /%d/a http/1.1', b'GET /%d/a', b'GET %d/a HTTP/1.1', b'GET * HTTP/1.1', b'GET ftp://x/%d/a HTTP/1.1'):
    refused('line ' + repr(line), get(line=line))
refused('HTTP/2.0', get(line=b'GET /%d/a HTTP/2.0'), '505')
refused('LF before', b'\n' + get(), '')
# ---- hosts
case('absolute form, another Host', get(line=b'GET http://' + GOOD + b'/%d/a HTTP/1.1', host=b'Host: ' + EVIL + b'\r\n') + NEXT, '200 200', 'a', 'next')
case('absolute form of another host', get(line=b'GET http://' + EVIL + b'/%d/a HTTP/1.1') + NEXT, '502 200', 'next')
case('two slashes', get(line=b'GET //' + EVIL + b'/../%d/a HTTP/1.1') + NEXT, '200 200', '//' + EVIL.decode() + '/../%d/a', 'next')
case('a host in capitals, with port and dot', get(host=b'HOST: Recorder.EXAMPLE.com.:7800\r\n') + NEXT, '200 200', 'a', 'next')
case('no host in HTTP/1.0', get(line=b'GET /%d/a HTTP/1.0', host=b''), '502')
case('an empty host', get(host=b'Host:\r\n') + NEXT, '502 200', 'next')
case('Host named by Connection', get(b'Connection: Host\r\n') + SMUGGLED, '200 502', 'a')
refused('no host', get(host=b''))
for other in (EVIL, GOOD, b''):
    refused('two hosts', get(b'Host: ' + other + b'\r\n'))
    refused('two hosts', get(host=b'Host: ' + other + b'\r\n' + H))
for host in (GOOD + b', ' + EVIL, GOOD + b' ' + EVIL, EVIL + b'@' + GOOD, GOOD + b':80:' + EVIL, GOOD + b'/', GOOD + b'\0.' + EVIL, GOOD + b'#', GOOD + b'?x', GOOD + b':', GOOD + b'..',
             b'[' + GOOD + b']', GOOD + b'\xa0', b'.' + GOOD):
    refused('host ' + repr(host), get(host=b'Host: ' + host + b'\r\n'))
refused('a blank before the colon of Host', get(host=b'Host : ' + GOOD + b'\r\n'))
for authority in (EVIL + b'@' + GOOD, GOOD + b'#@' + EVIL, GOOD + b':80@' + EVIL, GOOD + b'?@' + EVIL, b'', GOOD + b'\\@' + EVIL):
    refused('authority ' + repr(authority), get(line=b'GET http://' + authority + b'/%d/a HTTP/1.1'))
# ---- what would end HTTP/1
case('CONNECT', get(line=b'CONNECT ' + GOOD + b':7800 HTTP/1.1') + SMUGGLED, '405 502')
case('an upgrade to HTTP/2 whose settings are none', get(b'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: {}\r\n') + SMUGGLED, '200 502', 'a')
case('an upgrade that is not answered', get(b'Connection: Upgrade\r\nUpgrade: websocket\r\n') + SMUGGLED, '200 502', 'a')
case('Expect', post(b'Expect: 100-continue\r\n' + length(SMUGGLED), SMUGGLED) + NEXT, '200 200', ('a', SMUGGLED), 'next')


# ---- the readers: each takes liberties that some server takes

def number(text, way):
    if way == 'strict':
        return int(text, 16) if re.fullmatch(rb'[0-9a-fA-F]+', text) else None
    found = re.match(rb'[ \t+]*(0[xX])?([0-9a-fA-F]+)', text)
    return int(found[2], 16) & 0xffffffff if found else None


class Reader:
    """All requests of a connection: [(target, host, body)]; the body of one that does not end is None."""
    WAYS = {'eol': ('crlf', 'lf', 'cr'), 'wins': ('te', 'cl'), 'te': ('exact', 'contains'), 'name': ('strict', 'trimmed'), 'of_two': (0, -1),
            'fold': ('own line', 'joined'), 'size': ('strict', 'loose'), 'nul': ('kept', 'cut'), 'authority': ('target', 'host')}

    def __init__(self, raw, ways):
        self.raw, self.at, self.ways = raw, 0, dict(zip(self.WAYS, ways))

    def line(self):
        ends = {'crlf': rb'\r\n', 'lf': rb'\r?\n', 'cr': rb'\r\n|\r|\n'}[self.ways['eol']]
        found = re.compile(ends).search(self.raw, self.at)
        if not found:
            return None
        line, self.at = self.raw[self.at:found.start()], found.end()
        return line.split(b'\0')[0] if self.ways['nul'] == 'cut' else line

    def fields(self):
        lines, fields = [], {}
        while line := self.line():
            if line[:1] in b' \t' and lines and self.ways['fold'] == 'joined':
                lines[-1] += line
            else:
                lines.append(line)
        for one in lines:
            name, _, value = one.partition(b':')
            name = name.lower() if self.ways['name'] == 'strict' else name.strip().lower()
            fields.setdefault(name, []).append(value.strip())
        return None if line is None else fields

    def chunks(self):
        body = b''
        while (line := self.line()) is not None:
            size = number(line.split(b';')[0], self.ways['size'])
            if size is None:
                return None
            if not size:
                return None if self.fields() is None else body
            part = self.raw[self.at:self.at + size]
            self.at += size
            if len(part) < size or self.line() is None:
                return None
            body += part
        return None

    def body(self, fields):
        te, cl = fields.get(b'transfer-encoding', []), fields.get(b'content-length', [])
        is_chunked = any(t.lower() == b'chunked' if self.ways['te'] == 'exact' else b'chunked' in t.lower() for t in te)
        if is_chunked and not (cl and self.ways['wins'] == 'cl'):
            return self.chunks()
        if not cl:
            return b''
        found = re.match(rb'[ \t+]*([0-9]+)', cl[self.ways['of_two']])
        size = int(found[1]) if found else 0
        part = self.raw[self.at:self.at + size]
        self.at += size
        return part if len(part) == size else None

    def requests(self):
        found = []
        while self.at < len(self.raw):
            line = self.line()
            fields = None if line is None else self.fields()
            if fields is None:
                return found + [('?', '?', None)]
            target = line.split(b' ')[1] if b' ' in line else line
            host = fields.get(b'host', [b''])[self.ways['of_two']]
            if target.startswith(b'http://') and self.ways['authority'] == 'target':
                host = target[7:].partition(b'/')[0]
            body = self.body(fields)
            found.append((target.decode('latin1'), host.decode('latin1').lower(), body))
            if body is None:
                break
        return found


READERS = list(itertools.product(*Reader.WAYS.values()))


# ---- the three programs

async def record(path, address, port):
    out = open(path, 'w')

    async def serve(reader, writer):
        raw, answered = b'', 0
        while part := await reader.read(65536):
            raw += part
            whole = [r for r in Reader(raw, READERS[0]).requests() if r[2] is not None]
            for _ in whole[answered:]:
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
            answered = len(whole)
        out.write(raw.hex() + '\n')
        out.flush()
        writer.close()

    await asyncio.start_server(serve, address, port)
    print('ready', flush=True)
    await asyncio.Event().wait()


def parts(wire, way, draw):
    if way == 0:
        return [wire]
    if way == 1:
        cut = draw.randrange(1, len(wire))
        return [wire[:cut], wire[cut:]]
    return [wire[i:i + 1] for i in range(len(wire))]


def answers(address, port, pieces):
    came = b''
    with socket.create_connection((address, port), 3) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                s.sendall(piece)
                if len(pieces) == 2:
                    time.sleep(.002)
            s.shutdown(socket.SHUT_WR)
            while part := s.recv(65536):
                came += part
        except OSError:
            pass  # reset
    return ' '.join(status.decode() for status in re.findall(rb'^HTTP/1.1 ([0-9]+) ', came, re.M) if status != b'100')


def numbered(wire, mark):
    return wire.replace(b'%d', b'%d' % mark)


def send(path, address, port):
    draw = random.Random(1)
    with open(path, 'w') as out:
        for i, (_, wire, _, _) in enumerate(CASES):
            for way in range(3):
                print(answers(address, port, parts(numbered(wire, 3 * i + way), way, draw)), file=out)


def judge(recorded, answered):
    arrived = {}
    for line in open(recorded):
        raw = bytes.fromhex(line)
        readings = {tuple(Reader(raw, ways).requests()) for ways in READERS}
        if len(readings) > 1:
            print('SEVERAL READINGS', raw, readings)
        reading = min(readings, key=repr)
        mark = re.search(rb'/(\d+)/', raw)
        arrived.setdefault(int(mark[1]) if mark else -1, []).extend(reading)
        for target, host, _ in reading:
            if host.rstrip('.').split(':')[0].rstrip('.') != GOOD.decode() or target == '/evil':
                print('FORBIDDEN', raw)
    statuses = [line.strip() for line in open(answered)]
    for i, (name, wire, wanted, arrives) in enumerate(CASES):
        for way in range(3):
            mark = 3 * i + way
            came = [(target, body) for target, _, body in arrived.pop(mark, []) if body is not None]
            want = [(target % mark if '%' in target else '/%d/%s' % (mark, target), body) for target, body in arrives]
            if statuses[mark] != wanted or came != want:
                print('CASE', name, 'sent in way', way, 'answered', statuses[mark], 'not', wanted, 'arrived', came, 'not', want)
    if arrived:
        print('NOBODY SENT', arrived)
    heads = sum(len(Reader(bytes.fromhex(line), READERS[0]).requests()) for line in open(recorded))
    local = sum(status in ('502', '405') for line in statuses for status in line.split())
    print('cases', len(CASES), 'judged', heads + local)


if sys.argv[1] == 'record':
    asyncio.run(record(sys.argv[2], sys.argv[3], int(sys.argv[4])))
elif sys.argv[1] == 'send':
    send(sys.argv[2], sys.argv[3], int(sys.argv[4]))
else:
    judge(sys.argv[2], sys.argv[3])
