# SPDX-License-Identifier: Apache-2.0
"""Generated requests, up to three on a connection, the same ones for the same seed, and whether two who were asked agree.

differential.py send ADDRESS HOST SEED COUNT  sends COUNT requests; a line of JSON for each connection: the kind of its last
                                              request, what was answered, what was sent
differential.py compare DIRECT THROUGH        the same answers, or 400 where that must or may be

All are good (to be answered as nginx does) but the last one, which may be of another kind: head (RFC 9112 demands 400) or
body (framing that breaks after the head: the answer may have come before)."""
import collections
import json
import random
import socket
import sys

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
    target = draw.choice([b'/', b'/told/', b'/told/a/b', b'/told/a?b=c&d', b'/told/%41%2f', b'/told//x', b'/told/a/../b', b'/bytes/none', b'/bytes/1024',
                          b'http://' + host + b'/told/abs'])
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
    draw.shuffle(fields)
    return method + b' ' + target + b' HTTP/1.1', fields, body


BAD_LINES = [b'GET  / HTTP/1.1', b'GET / HTTP/1.1 ', b'GET /\tHTTP/1.1', b'GET / HTTP/1.x', b'get / HTTP/1.1', b'GET / http/1.1']
BAD_FIELDS = [b'X : 1', b' X: 1', b'X\x00: 1', b'X: a\x00b', b': 1', b'X', b'X: a\rb', b'X: a' + END + b' folded', b'X: a\nY: b',
              b'Host: other.example', b'Content-Length: +5', b'Content-Length: 5, 6', b'Content-Length: -1', b'Content-Length: 0x5',
              b'Transfer-Encoding: chunked' + END + b'Content-Length: 5', b'Transfer-Encoding: chunked' + END + b'Transfer-Encoding: chunked',
              b'Transfer-Encoding: identity, chunked ,x', b'Transfer-Encoding : chunked', b'Transfer-Encoding:\x0bchunked',
              b'Content-Length: 5' + END + b'Content-Length: 6']
BAD_CHUNKS = [b'g' + END, b'5' + END + b'helloX' + END, b'0x5' + END + b'hello' + END, b'5\nhello\n', b'-5' + END, b'fffffffffffffffff' + END]


def last(kind):
    line, fields, body = good()
    if kind == 'head':
        line, fields, body = b'POST /told/ HTTP/1.1', [b'Host: ' + host], b''
        if draw.random() < .25:
            line = draw.choice(BAD_LINES)
        else:
            fields.insert(draw.randint(0, 1), draw.choice(BAD_FIELDS))
    elif kind == 'body':
        fields = [b'Host: ' + host, b'Transfer-Encoding: chunked']
        line, body = b'POST /told/ HTTP/1.1', draw.choice(BAD_CHUNKS) + b'0' + END + END
    if draw.random() < .5 or kind != 'good':
        fields.append(b'Connection: close')
    return line, fields, body


def connection(most):
    """The kind, and what is sent: (method, bytes) of each request."""
    kind = draw.choices(['good', 'head', 'body'], [7, 2, 1])[0]
    sent = [good() for _ in range(draw.randint(0, min(2, most - 1)))] + [last(kind)]
    return kind, [(line.split()[0].decode(), line + END + b''.join(f + END for f in fields) + END + body) for line, fields, body in sent]


# What sluice says of itself, what the moment says, and what is between neighbours only.
NOT_COMPARED = {'date', 'connection', 'x-envoy-upstream-service-time'}


def answers(came, methods):
    """(status, fields, body) of each answer in these bytes."""
    found = []
    while came:
        head, _, came = came.partition(END + END)
        lines = head.decode('latin1').split('\r\n')
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(':') for line in lines[1:])}
        method = methods[len(found)] if len(found) < len(methods) else 'none'
        size = 0 if method == 'HEAD' else int(fields.get('content-length', 0))
        found.append((lines[0].split(' ')[1] if ' ' in lines[0] else 'none', {n: v for n, v in fields.items() if n not in NOT_COMPARED},
                      came[:size].decode('latin1')))
        came = came[size:]
    return found


def ask(wire):
    came = b''
    with socket.create_connection((address, 80), 5) as s:
        try:
            s.sendall(wire)
            s.shutdown(socket.SHUT_WR) # who waits for more learns that there is none
            while part := s.recv(65536):
                came += part
        except OSError:
            pass # a reset because of bytes of ours unread; a silence is no answer
    return came


def send(count):
    while count:
        kind, sent = connection(count)
        count -= len(sent)
        wire = b''.join(one for _, one in sent)
        print(json.dumps([kind, answers(ask(wire), [method for method, _ in sent]), wire.decode('latin1')]))


def agree(kind, direct, through):
    if kind == 'good' or (kind == 'body' and direct == through):
        return direct == through
    statuses = [status for status, _, _ in through]
    return statuses[-1:] == ['400'] and direct[:len(through) - 1] == through[:-1]


def compare(direct, through):
    kinds, requests = collections.Counter(), 0
    for one, other in zip(open(direct), open(through), strict=True):
        (kind, first, wire), (_, second, same) = json.loads(one), json.loads(other)
        kinds[kind] += 1
        requests += max(len(first), len(second))
        if wire != same or not agree(kind, first, second):
            print('DIFFERENT', kind, 'direct', first, 'through', second, 'of', repr(wire))
    print('compared', ' '.join('%s %d' % item for item in sorted(kinds.items())), 'answers', requests)


if sys.argv[1] == 'send':
    address, host, draw = sys.argv[2], sys.argv[3].encode(), random.Random(int(sys.argv[4]))
    send(int(sys.argv[5]))
else:
    compare(sys.argv[2], sys.argv[3])
