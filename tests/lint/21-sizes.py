# Files at most 600 lines, doors at most 120, lines of C at most 180 characters.
from laws import files, read, verdict

violations = []
for path in files('.c', '.h', '.py', '.sh'):
    lines = read(path).split('\n')
    count = len(lines) - (lines[-1] == '')
    limit = 120 if path.startswith('include/') else 600
    if count > limit:
        violations.append(f'{path}:1: {count} lines, at most {limit}')
    if path.endswith(('.c', '.h')) and path.startswith(('agent/', 'include/', 'tools/')):
        violations += [f'{path}:{number}: {len(line)} characters, at most 180' for number, line in enumerate(lines, 1) if len(line) > 180]
verdict(violations)
