#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# HTTP/1.1 through the redirector (RFC 9110, RFC 9112).
. "$(dirname "$0")/common.bash"

httpbin=$(service httpbin.example.com 80/HTTP)
host='Host: httpbin.example.com\r\n'
close='Connection: close\r\n'

allowed()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin"
}

url()
{
	printf 'http://httpbin.example.com%s\n' "$1"
}

# What the lab's server sends as N bytes.
pattern()
{
	yes abcdefghijklmnopqrstuvwxyz | tr -d '\n' | head -c "$1"
}

family_a_large_body_comes_down_whole()
{
	allowed
	get 13 -o "$scratch/body" -w '%{http_code}' "$(url /bytes/30000000)"
	expect '^200'
	cmp -s "$scratch/body" <(pattern 30000000) || fail "30000000 bytes as the server sent them"
}

test_a_chunked_body_comes_down_whole()
{
	allowed
	get 13 -o "$scratch/body" -D "$scratch/head" "$(url /chunked/5000000)"
	cmp -s "$scratch/body" <(pattern 5000000) || fail "5000000 bytes as the server sent them"
	grep -qi '^transfer-encoding: chunked' "$scratch/head" || fail "a chunked answer"
}

test_a_body_until_close_comes_down_whole()
{
	allowed
	get 13 -o "$scratch/body" "$(url /until-close/1000000)"
	cmp -s "$scratch/body" <(pattern 1000000) || fail "1000000 bytes as the server sent them"
}

test_a_large_body_goes_up_with_a_length()
{
	allowed
	pattern 20000000 >"$scratch/body"
	get 13 -T "$scratch/body" "$(url /upload)"
	expect '^20000000$'
}

test_a_chunked_body_goes_up()
{
	allowed
	pattern 3000000 >"$scratch/body"
	get 13 -H 'Transfer-Encoding: chunked' -T "$scratch/body" "$(url /upload)"
	expect '^3000000$'
}

test_chunks_with_extensions_and_trailers_are_understood()
{
	allowed
	raw 13 80 "POST /upload HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\nGET /status/201 HTTP/1.1\r\n$host$close\r\n"
	expect '^HTTP/1.1 200'
	expect '^5$'
	expect '^HTTP/1.1 201'
}

test_expect_100_continue_is_answered()
{
	allowed
	pattern 100000 >"$scratch/body"
	get 13 -H 'Expect: 100-continue' -T "$scratch/body" "$(url /upload)"
	expect '^100000$'
	raw 13 80 "POST /upload HTTP/1.1\r\n${host}Content-Length: 5\r\nExpect: 100-continue\r\n$close\r\n" -t 800
	expect '^HTTP/1.1 100'
}

test_a_blocked_host_gets_502_in_place_of_100()
{
	allowed
	raw 13 80 'POST / HTTP/1.1\r\nHost: evil.com\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n'
	expect '^HTTP/1.1 502'
	refuse '^HTTP/1.1 100'
}

test_the_body_of_a_blocked_request_is_not_taken_for_a_request()
{
	allowed
	raw 13 80 "POST / HTTP/1.1\r\nHost: evil.com\r\nContent-Length: 51\r\n\r\nGET /status/201 HTTP/1.1\r\nHost: httpbin.example.c\r\n"
	expect '^HTTP/1.1 502'
	refuse '^HTTP/1.1 (201|400)'
}

test_head_has_the_length_but_no_body()
{
	allowed
	raw 13 80 "HEAD /bytes/1000 HTTP/1.1\r\n$host\r\nGET /status/201 HTTP/1.1\r\n$host$close\r\n"
	expect '^[cC]ontent-[lL]ength: 1000'
	expect '^HTTP/1.1 201'
	refuse 'abcdef'
}

test_answers_without_body_keep_the_connection()
{
	allowed
	raw 13 80 "GET /status/204 HTTP/1.1\r\n$host\r\nGET /status/304 HTTP/1.1\r\n$host\r\nGET /status/201 HTTP/1.1\r\n$host$close\r\n"
	[[ $(grep -oE '^HTTP/1.1 [0-9]+' <<<"$output" | awk '{ print $2 }' | xargs) == '204 304 201' ]] || fail "the statuses 204 304 201"
}

test_pipelined_requests_are_answered_in_order()
{
	local requests='' want='' i

	allowed
	for i in {200..203} {206..208} {400..417} {422..426}; do
		requests+="GET /status/$i HTTP/1.1\r\n$host\r\n"
		want+=" $i"
	done
	raw 13 80 "${requests}GET /status/226 HTTP/1.1\r\n$host$close\r\n"
	[[ " $(grep -oE '^HTTP/1.1 [0-9]+' <<<"$output" | awk '{ print $2 }' | xargs)" == "$want 226" ]] || fail "the statuses$want 226"
}

test_an_upgraded_connection_carries_bytes_both_ways()
{
	allowed
	raw 13 80 "GET /upgrade HTTP/1.1\r\n${host}Connection: Upgrade\r\nUpgrade: lab\r\n\r\nping pong" -h
	expect '^HTTP/1.1 101'
	expect '^[uU]pgrade: lab'
	expect 'ping pong'
}

test_half_closed_clients_get_their_answer()
{
	allowed
	raw 13 80 "GET /slow/300 HTTP/1.1\r\n$host\r\n" -h
	expect '^HTTP/1.1 200'
	expect 'slow'
}

# One that is gone for good after that is noticed by its silence.
test_half_closed_clients_are_asked_whether_they_live()
{
	allowed
	printf 'GET /slow/2000 HTTP/1.1\r\n%b\r\n' "$host" >"$scratch/bytes"
	background half web sh -c "exec '$TOOLS/raw' -h 203.0.113.13 80 <'$scratch/bytes'"
	sleep 0.5
	run web ss -Htno state close-wait src 127.0.0.1:15001
	expect 'timer:\(keepalive,([1-5][0-9]|60)(\.[0-9]*)?(sec|s)'
}

test_a_head_in_single_bytes_is_understood()
{
	allowed
	raw 13 80 "GET /head HTTP/1.1\r\n$host$close\r\n" -s 1 -w 1
	expect '^HTTP/1.1 200'
}

test_http_1_0_is_served_and_closed()
{
	allowed
	raw 13 80 "GET /bytes/10 HTTP/1.0\r\n$host\r\n"
	expect '^HTTP/1\.[01] 200'
	expect 'abcdefghij'
	expect 'end=eof'
}

# RFC 9112 appendix C.2.2: an old client is told that it may ask again, by our own answers, too.
test_http_1_0_keeps_its_connection_if_it_asks_for_it()
{
	policy "$(mode REGISTRY_ONLY)" "$httpbin"
	raw 13 80 'GET /status/200 HTTP/1.0\r\nHost: httpbin.example.com\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\nHost: evil.example.com\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\nHost: evil.example.com\r\n\r\n'
	expect_count 2 '^HTTP/1.1 502'
	expect_count 1 '^Connection: keep-alive.?$'
	expect_count 1 '^connection: keep-alive.?$'
	expect_count 1 '^connection: close.?$'
	raw 13 80 'GET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\nGET / HTTP/1.1\r\nHost: evil.example.com\r\nConnection: close\r\n\r\n'
	refuse '^connection: keep-alive'
}

test_headers_for_the_next_hop_only_stay_behind()
{
	allowed
	raw 13 80 "GET /head HTTP/1.1\r\n${host}Connection: close, X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n\r\n"
	expect '^X-End: 2'
	refuse '^X-Hop'
}

test_an_answer_before_the_end_of_the_body_arrives()
{
	allowed
	pattern 8000000 >"$scratch/body"
	get 13 -i -T "$scratch/body" "$(url /early)"
	expect '^HTTP/1.1 413'
}

test_a_slow_server_is_waited_for()
{
	allowed
	get 13 -i "$(url /slow/1500)"
	expect '^HTTP/1.1 200'
	expect '^x-envoy-upstream-service-time: 1[5-9][0-9][0-9]'
}

test_a_slow_reader_gets_everything()
{
	allowed
	get 13 --limit-rate 4M -o "$scratch/body" "$(url /bytes/8000000)"
	cmp -s "$scratch/body" <(pattern 8000000) || fail "8000000 bytes as the server sent them"
}

test_a_slow_request_does_not_hold_others_up()
{
	allowed
	background slow web "$TOOLS/hammer" -n 32 -s 1 http 203.0.113.13 80 httpbin.example.com
	get 13 -w ' %{time_total}' "$(url /head)"
	expect '^GET /head'
	expect ' 0\.[0-9]+$'
}

test_many_requests_on_one_connection()
{
	allowed
	get 13 -o /dev/null -w '%{http_code} %{num_connects}\n' "$(url '/status/200?[1-200]')"
	expect_count 199 '^200 0$'
	expect_count 1 '^200 1$'
}

test_a_head_that_is_too_large_is_refused()
{
	allowed
	raw 13 80 "GET / HTTP/1.1\r\n${host}X: $(pattern 200000)\r\n\r\n"
	expect '^HTTP/1.1 (400|431)|end=ECONNRESET'
	refuse '^HTTP/1.1 200'
}

# Requests that two parsers could read in two ways are answered 400, and the connection is closed.
malformed()
{
	allowed
	raw 13 80 "$1GET /status/201 HTTP/1.1\r\n$host\r\n"
	expect '^HTTP/1.1 400'
	expect 'end=(eof|ECONNRESET)'
	refuse '^HTTP/1.1 201'
}

test_malformed_both_lengths()
{
	malformed "POST /upload HTTP/1.1\r\n${host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
}

test_malformed_two_lengths()
{
	malformed "POST /upload HTTP/1.1\r\n${host}Content-Length: 0\r\nContent-Length: 5\r\n\r\n"
}

test_malformed_lengths()
{
	local length

	for length in +5 -1 0x5 '5,6' 99999999999999999999 '5 5'; do
		malformed "POST /upload HTTP/1.1\r\n${host}Content-Length: $length\r\n\r\n"
	done
}

test_malformed_transfer_encodings()
{
	local encoding

	for encoding in xchunked 'chunked, identity' 'chunked, chunked' 'identity' '"chunked"'; do
		allowed
		raw 13 80 "POST /upload HTTP/1.1\r\n${host}Transfer-Encoding: $encoding\r\n\r\n0\r\n\r\nGET /status/201 HTTP/1.1\r\n$host\r\n"
		expect '^HTTP/1.1 (400|501)'
		refuse '^HTTP/1.1 20'
	done
}

test_malformed_transfer_encoding_in_http_1_0()
{
	allowed
	raw 13 80 "POST /upload HTTP/1.0\r\n${host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /status/201 HTTP/1.1\r\n$host\r\n"
	expect '^HTTP/1\.[01] 400'
	refuse '^HTTP/1.1 201'
}

test_malformed_chunk_sizes()
{
	local size

	for size in g 0x5 -1 +5 fffffffffffffffff '' '5 5'; do
		malformed "POST /upload HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n$size\r\nhello\r\n0\r\n\r\n"
	done
}

test_malformed_chunk_that_is_longer_than_it_says()
{
	malformed "POST /upload HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n"
}

test_malformed_folded_header()
{
	malformed "GET / HTTP/1.1\r\n${host}X-A: b\r\n c\r\n\r\n"
}

test_malformed_space_before_the_first_header()
{
	malformed "GET / HTTP/1.1\r\n Host: httpbin.example.com\r\n\r\n"
}

test_malformed_bare_cr()
{
	malformed "GET / HTTP/1.1\r\n${host}X-A: b\rX-B: c\r\n\r\n"
	malformed "GET / HTTP/1.1\rX: y\r\n$host\r\n"
}

test_malformed_nul()
{
	malformed "GET / HTTP/1.1\r\n${host}X-A: b\0c\r\n\r\n"
}

test_malformed_space_before_a_colon()
{
	malformed "GET / HTTP/1.1\r\nHost : httpbin.example.com\r\n\r\n"
	malformed "POST / HTTP/1.1\r\n${host}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"
}

test_malformed_several_hosts()
{
	malformed "GET / HTTP/1.1\r\n${host}Host: evil.com\r\n\r\n"
	malformed "GET / HTTP/1.1\r\n$host$host\r\n"
}

test_malformed_no_host()
{
	malformed "GET / HTTP/1.1\r\n\r\n"
}

test_malformed_host()
{
	malformed "GET / HTTP/1.1\r\nHost: httpbin.example.com evil.com\r\n\r\n"
	malformed "GET / HTTP/1.1\r\nHost: evil.com@httpbin.example.com\r\n\r\n"
	malformed "GET / HTTP/1.1\r\nHost: httpbin.example.com/\r\n\r\n"
}

test_malformed_request_line()
{
	malformed "GET  / HTTP/1.1\r\n$host\r\n"
	malformed "GET / HTTP/1.1x\r\n$host\r\n"
	malformed "GET / HTTP/1.1\r\n${host}X@Y: 1\r\n\r\n"
}

run_story
