# No tabs, no blanks at line ends, no marks of unfinished work, a newline at the end of each file.
list=$(git ls-files --cached --others --exclude-standard -- agent include tools tests systemd README.md 2>/dev/null | grep -Ev '^tests/(fuzz/corpus|fixtures|e2e/data|unit/data)/|\.(patch|wasm|pem|gz)$|^tests/lint/')
[ -n "$list" ] || list=$(find agent include tools tests systemd -type f ! -path 'tests/fuzz/corpus/*' ! -path 'tests/lint/*' 2>/dev/null)
code=$(printf '%s\n' "$list" | grep -E '\.(c|h|py|sh)$' | while read -r f; do [ -f "$f" ] && echo "$f"; done)
all=$(printf '%s\n' "$list" | while read -r f; do [ -f "$f" ] && echo "$f"; done)
bad=0
complain() { sed "s/^\([^:]*:[0-9]*\):.*/\1: $1/" | grep . && bad=1; }
tab=$(printf '\t')
complain 'a tab' <<X
$(grep -nI "$tab" $code /dev/null)
X
complain 'blanks at the end of the line' <<X
$(grep -nIE '[[:space:]]$' $all /dev/null)
X
complain 'a mark of unfinished work' <<X
$(grep -nIwE 'TODO|FIXME|XXX|HACK' $all /dev/null)
X
for f in $all; do
        if [ -s "$f" ] && [ -n "$(tail -c 1 "$f")" ] && grep -qI . "$f"; then echo "$f:1: no newline at the end"; bad=1; fi
done
exit $bad
