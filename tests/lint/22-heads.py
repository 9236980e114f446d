# Every .c opens with three short lists: how it goes, how it fails, how it ends.
import re

from laws import files, read, verdict

violations = []
for path in files('.c'):
    if re.match(r'tests/.*/(test|fuzz)_[^/]*\.c$', path):        # a test's story is its table
        continue
    head = re.match(r'(\s*/\*.*?\*/)+', read(path), re.S)
    text = head[0] if head else ''
    violations += [f'{path}:1: the opening comment has no "{words}:"' for words in ('How it goes', 'How it fails', 'How it ends') if words + ':' not in text]
verdict(violations)
