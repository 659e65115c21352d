# SPDX-License-Identifier: Apache-2.0
#
# Joins what was judged into the matrix: failures and counts on stdout, the matrix as text there and as Markdown in
# the file `markdown`. One line for each method; families that differ are told apart in the cell.

BEGIN { mode_count = split(modes, mode_names, " ") }

function phase_of(file)
{
	sub(/.*\//, "", file)
	sub(/\..*/, "", file)
	return file
}

FILENAME ~ /list$/ {
	row = $1
	flags[row] = $3
	text = $0
	sub(/^[^ ]+ [^ ]+ [^ ]+ /, "", text)
	split(text, parts, "|")
	method = row
	sub(/\/.*/, "", method)
	needs[method] = parts[1]
	what[method] = parts[2]
	add_row(method, row)
	next
}

FILENAME ~ /judged$/ { result[phase_of(FILENAME), $1] = $2; why[phase_of(FILENAME), $1] = rest(3); next }
FILENAME ~ /allowed$/ { result["allowed " phase_of(FILENAME), $1] = $4 == "echo" ? "works" : "broken"; why["allowed " phase_of(FILENAME), $1] = rest(4); next }
FILENAME ~ /legit$/ {
	method = $1
	sub(/\/.*/, "", method)
	if (!($1 in is_legit)) {
		is_legit[$1] = 1
		add_legit(method, $1)
	}
	result[phase_of(FILENAME), $1] = $2
	why[phase_of(FILENAME), $1] = rest(3)
	next
}

function rest(from, i, text)
{
	for (i = from; i <= NF; i++)
		text = text (i > from ? " " : "") $i
	return text
}

function add_row(method, row)
{
	if (!(method in row_list))
		methods[++method_count] = method
	row_list[method] = row_list[method] " " row
}

function add_legit(method, row)
{
	if (!(method in legit_list))
		legits[++legit_count] = method
	legit_list[method] = legit_list[method] " " row
}

function count(good, phase, row)
{
	if (good) {
		passed++
		return
	}
	failed++
	printf "not ok %s, %s: %s %s\n", row, phase, result[phase, row], why[phase, row]
}

# What one row was in one phase, in a word; counts it.
function off_cell(row)
{
	if (flags[row] ~ /enforced-only/ && ((mode_names[1], row) in result))
		return "n/a"
	if (!(("off", row) in result))
		return "" # filtered
	if (result["off", row] == "out") {
		count(1, "off", row)
		return "out"
	}
	if (flags[row] !~ /may-lack/)
		count(0, "off", row)
	printf "# not possible here: %s: %s\n", row, why["off", row]
	return "not possible"
}

# A row that should have been tried in this mode and has left no result.
function is_lost(row, mode, phase)
{
	if ((phase, row) in result || result["off", row] != "out" || (flags[row] ~ /at-/ && mode != mode_names[1]))
		return 0
	result[phase, row] = "not tried"
	count(0, phase, row)
	return 1
}

function on_cell(row, mode, out)
{
	if (is_lost(row, mode, mode))
		return "**LOST**"
	if (!((mode, row) in result))
		return ""
	out = result[mode, row] == "out"
	if (flags[row] ~ /limit/)
		return out ? "passes" : "held"
	if (out)
		escapes++
	count(!out, mode, row)
	return out ? "**OUT**" : "held"
}

function allowed_cell(row, i, phase, word)
{
	for (i = 1; i <= mode_count; i++) {
		phase = "allowed " mode_names[i]
		if (flags[row] ~ /legit/ && is_lost(row, mode_names[i], phase))
			word = "**LOST** " mode_names[i]
		if (!((phase, row) in result) || result[phase, row] == "not tried")
			continue
		if (result[phase, row] != "works")
			broken++
		count(result[phase, row] == "works", phase, row)
		if (word !~ /BROKEN|LOST/)
			word = result[phase, row] == "works" ? "works" : "**BROKEN** " mode_names[i]
	}
	return word
}

function legit_cell(row, phase)
{
	if (!((phase, row) in result))
		return ""
	if (result[phase, row] != "works")
		broken++
	count(result[phase, row] == "works", phase, row)
	return result[phase, row] == "works" ? "works" : "**BROKEN**"
}

function one_cell(kind, row, phase)
{
	if (kind == "off")
		return off_cell(row)
	if (kind == "on")
		return on_cell(row, phase)
	if (kind == "allowed")
		return allowed_cell(row)
	return legit_cell(row, phase)
}

# One word if all families agree.
function cell(kind, rows, phase, n, list, i, words, same, text, family)
{
	n = split(rows, list, " ")
	same = 1
	for (i = 1; i <= n; i++) {
		words[i] = one_cell(kind, list[i], phase)
		if (words[i] != words[1])
			same = 0
	}
	if (same)
		return words[1]
	for (i = 1; i <= n; i++) {
		family = list[i]
		sub(/.*\//, "", family)
		if (words[i] != "")
			text = text (text ? ", " : "") family " " words[i]
	}
	return text
}

function families(rows)
{
	gsub(/[^ ]*\//, "", rows)
	sub(/^ /, "", rows)
	return rows
}

END {
	head = "| way out | needs | families | off |"
	line = "| --- | --- | --- | --- |"
	for (i = 1; i <= mode_count; i++) {
		head = head " " mode_names[i] " |"
		line = line " --- |"
	}
	head = head " allowed |"
	line = line " --- |"
	table = head "\n" line "\n"
	for (m = 1; m <= method_count; m++) {
		method = methods[m]
		off = cell("off", row_list[method], "off")
		if (off == "")
			continue
		text = sprintf("| %s <br>`%s` | %s | %s | %s |", what[method], method, needs[method], families(row_list[method]), off)
		for (i = 1; i <= mode_count; i++)
			text = text " " cell("on", row_list[method], mode_names[i]) " |"
		table = table text " " cell("allowed", row_list[method], "") " |\n"
	}
	head = "| must keep working | families | off |"
	line = "| --- | --- | --- |"
	for (i = 1; i <= mode_count; i++) {
		head = head " " mode_names[i] " |"
		line = line " --- |"
	}
	table = table "\n" head "\n" line "\n"
	for (m = 1; m <= legit_count; m++) {
		method = legits[m]
		text = sprintf("| `%s` | %s | %s |", method, families(legit_list[method]), cell("legit", legit_list[method], "off"))
		for (i = 1; i <= mode_count; i++)
			text = text " " cell("legit", legit_list[method], mode_names[i]) " |"
		table = table text "\n"
	}
	print "" > markdown
	print table > markdown
	plain = table
	gsub(/ <br>/, " ", plain)
	printf "\n%s\n", plain
	printf "%d escapes, %d legitimate methods broken\n", escapes, broken
	printf "%d passed, %d failed\n", passed, failed
	exit failed > 0
}
