# SPDX-License-Identifier: Apache-2.0
"""Sends generated requests, the same ones for the same seed, and prints for each its kind and what was answered.

differential.py ADDRESS HOST SEED COUNT: a line `NUMBER KIND STATUS LENGTH DIGEST` for each, then nothing. The kinds:
good (to be answered as nginx does), head (RFC 9112 demands 400) and body (framing that breaks after the head: the answer
may have come before)."""
import hashlib
import random
import socket
import sys

address, host, seed, count = sys.argv[1], sys.argv[2].encode(), int(sys.argv[3]), int(sys.argv[4])
draw = random.Random(seed)
END = b'\r\n'


def chunks(body):
    out = b''
    while body:
        n = draw.randint(1, len(body))
        size = draw.choice([b'%x', b'%X', b'0%x', b'000%x']) % n
        out += size + draw.choice([b'', b'', b';a', b';a=b', b';a="b c"']) + END + body[:n] + END
        body = body[n:]
    return out + b'0' + END + draw.choice([b'', b'', b'X-Trailer: 1' + END]) + END


def good():
    """A request line, its fields and its body."""
    method = draw.choice([b'GET', b'HEAD', b'POST', b'PUT', b'DELETE', b'OPTIONS', b'PATCH', b'REPORT'])
    target = draw.choice([b'/', b'/a/b', b'/a?b=c&d', b'/%41%2f', b'//x', b'/a/../b', b'/bytes/none', b'http://' + host + b'/abs'])
    name = draw.choice([b'Host', b'host', b'HOST', b'hOsT'])
    value = draw.choice([host, host.upper(), host + b':80'])
    # no tab about it: nginx refuses one that RFC 9110 allows
    fields = [name + draw.choice([b': ', b':', b':  ']) + value + draw.choice([b'', b' '])]
    fields += [b'X-%d: %s' % (i, draw.choice([b'', b'v', b'a, b', b'"q"', b'\xc3\xa9', b'v' * 300])) for i in range(draw.randint(0, 6))]
    body = b''
    if method not in (b'GET', b'HEAD', b'OPTIONS') and draw.random() < .7:
        body = bytes(draw.choice(b'abc\r\n 0') for _ in range(draw.randint(0, 200)))
        if draw.random() < .5:
            fields.append(draw.choice([b'Transfer-Encoding: chunked', b'transfer-encoding:CHUNKED']))
            body = chunks(body)
        else:
            fields.append(b'Content-Length: %d' % len(body))
    fields.append(b'Connection: close')
    draw.shuffle(fields)
    return method + b' ' + target + b' HTTP/1.1', fields, body


BAD_LINES = [b'GET  / HTTP/1.1', b'GET / HTTP/1.1 ', b'GET /\tHTTP/1.1', b'GET / HTTP/1.x', b'get / HTTP/1.1', b'GET / http/1.1']
BAD_FIELDS = [b'X : 1', b' X: 1', b'X\x00: 1', b'X: a\x00b', b': 1', b'X', b'X: a\rb', b'X: a' + END + b' folded', b'X: a\nY: b',
              b'Host: other.example', b'Content-Length: +5', b'Content-Length: 5, 6', b'Content-Length: -1', b'Content-Length: 0x5',
              b'Transfer-Encoding: chunked' + END + b'Content-Length: 5', b'Transfer-Encoding: chunked' + END + b'Transfer-Encoding: chunked',
              b'Transfer-Encoding: identity, chunked ,x', b'Transfer-Encoding : chunked', b'Transfer-Encoding:\x0bchunked',
              b'Content-Length: 5' + END + b'Content-Length: 6']
BAD_CHUNKS = [b'g' + END, b'5' + END + b'helloX' + END, b'0x5' + END + b'hello' + END, b'5\nhello\n', b'-5' + END, b'fffffffffffffffff' + END]


def request():
    kind = draw.choices(['good', 'head', 'body'], [7, 2, 1])[0]
    line, fields, body = good()
    if kind == 'head':
        line, fields, body = b'POST / HTTP/1.1', [b'Host: ' + host, b'Connection: close'], b''
        if draw.random() < .25:
            line = draw.choice(BAD_LINES)
        else:
            fields.insert(draw.randint(1, 2), draw.choice(BAD_FIELDS))
    elif kind == 'body':
        fields = [b'Host: ' + host, b'Transfer-Encoding: chunked', b'Connection: close']
        line, body = b'POST / HTTP/1.1', draw.choice(BAD_CHUNKS) + b'0' + END + END
    return kind, line + END + b''.join(f + END for f in fields) + END + body


def answer(wire):
    came = b''
    with socket.create_connection((address, 80), 5) as s:
        try:
            s.sendall(wire)
            s.shutdown(socket.SHUT_WR) # who waits for more learns that there is none
            while part := s.recv(65536):
                came += part
        except (ConnectionError, TimeoutError):
            pass # a reset because of bytes of ours unread; a silence is no answer
    head, _, body = came.partition(END + END)
    words = head.split(b' ', 2)
    return (words[1].decode() if len(words) > 1 else 'none'), body


for number in range(count):
    kind, wire = request()
    status, body = answer(wire)
    print(number, kind, status, len(body), hashlib.sha256(body).hexdigest()[:16], repr(wire[:400]))
