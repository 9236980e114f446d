# Functions: median at most 18 lines, 95 of 100 at most 55, none over 90. A function's lines are those from its head to its closing brace; the ten longest are shown.
import re

from laws import files, read, verdict

HEAD = re.compile(r'^[A-Za-z_][^;{}#]*\([^;{}]*\)[^;{}]*$')


def functions(text):
    """(name, line, lines): a brace alone in column 0 opens a body, the next one closes it; house style makes that exact."""
    lines = text.split('\n')
    start = None
    for number, line in enumerate(lines):
        if line == '{' and start is None and number > 0:
            start = number
            while start > 0 and lines[start - 1].strip() and not lines[start - 1].startswith(('}', '#', ' *', '/*', '//')) and not lines[start - 1].rstrip().endswith((';', '*/')):
                start -= 1
        elif line.startswith('}') and start is not None:
            name = re.search(r'(\w+)\s*\(', ' '.join(lines[start:number]))
            yield (name[1] if name else '?', start + 1, number - start + 1)
            start = None


violations, found = [], []
for path in files('.c', under=('agent', 'tools')):
    text = read(path)
    found += [(lines, path, line, name) for name, line, lines in functions(text)]
    for number, line in enumerate(text.split('\n'), 1):
        if HEAD.match(line.rstrip(' {')) and line.endswith('{') and not line.startswith((' ', '\t')) and ' = ' not in line:
            violations.append(f'{path}:{number}: the brace of a function stands on a line of its own')
found.sort(reverse=True)
sizes = sorted(entry[0] for entry in found)
if sizes:
    median, most = sizes[len(sizes) // 2], sizes[min(len(sizes) - 1, len(sizes) * 95 // 100)]
    print(f'{len(sizes)} functions: median {median}, 95 % at most {most}, longest {sizes[-1]}; the ten longest:')
    for lines, path, line, name in found[:10]:
        print(f'  {lines:3} {path}:{line} {name}')
    if median > 18:
        violations.append(f'median of function lengths is {median}, at most 18')
    if most > 55:
        violations.append(f'95 % of the functions have up to {most} lines, at most 55')
violations += [f'{path}:{line}: {name} has {lines} lines, at most 90' for lines, path, line, name in found if lines > 90]
verdict(violations)
