# No tabs, no blanks at line ends, no marks of unfinished work, a newline at the end of each file.
kept='^tests/(fuzz/corpus|fixtures|e2e/data|unit/data|lint)/|\.(patch|wasm|pem|gz)$'        # data as others made it, and the laws themselves
list=$(git ls-files --cached --others --exclude-standard -- agent include tools tests systemd README.md 2>/dev/null | grep -Ev "$kept")
[ -n "$list" ] || list=$(find agent include tools tests systemd README.md -type f ! -path '*/__pycache__/*' 2>/dev/null | grep -Ev "$kept")     # a copy without git
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
