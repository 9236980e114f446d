# The fixed top level, a door for every room, tests named after their subject, executable scripts, and no host of a package registry anywhere.
import os
import re

from laws import LAYERS, files, read, verdict

violations = []
TOP = {'Makefile', 'agent', 'include', 'systemd', 'tests', 'tools', 'README.md', 'LICENSE'}
for top in sorted({path.split('/')[0] for path in files(under=None)}):
    if top not in TOP and not top.startswith('.'):
        violations.append(f'{top}:1: the top level is fixed: {" ".join(sorted(TOP))}')

rooms = sorted({path.split('/')[1] for path in files('.c', under=('agent',))})
for room in rooms:
    if room != 'daemon' and not os.path.exists(f'include/wasmcached/{room}.h'):
        violations.append(f'agent/{room}:1: has no door include/wasmcached/{room}.h')
for path in files('.h', under=('include',)):
    room = path.split('/')[2].removesuffix('.h') if path.startswith('include/wasmcached/') else None      # include/wasmcached/<room>.h, or a leaf of it <room>/<thing>.h
    if path != 'include/wasmcache.h' and (room not in LAYERS and room != 'base' or path.count('/') > 3):
        violations.append(f'{path}:1: a door without a room')

for path in files('.c', under=('tests',)):
    match = re.fullmatch(r'tests/unit/test_([a-z0-9]+)(?:_[a-z0-9_]+)?\.c', path)
    if path.startswith('tests/unit/') and not (match and match[1] in rooms + ['client']):
        violations.append(f'{path}:1: a unit test is called test_<room>_<subject>.c')
    match = re.fullmatch(r'tests/fuzz/fuzz_([a-z0-9_]+)\.c', path)
    if match and len(os.listdir(f'tests/fuzz/corpus/{match[1]}') if os.path.isdir(f'tests/fuzz/corpus/{match[1]}') else []) < 5:
        violations.append(f'{path}:1: tests/fuzz/corpus/{match[1]} has fewer than 5 files')

HOSTS = r'(?<![\w.-])(?:registry\.npmjs\.org|(?:www\.)?npmjs\.com|pypi\.org|files\.pythonhosted\.org|(?:index\.|static\.)?crates\.io|rubygems\.org|proxy\.golang\.org|sum\.golang\.org|repo1?\.maven\.(?:apache\.)?org|' \
        r'ghcr\.io|quay\.io|(?:[a-z]+\.)?gcr\.io|mcr\.microsoft\.com|public\.ecr\.aws|registry\.k8s\.io|wa\.dev)(?![\w-])'
for path in files('.c', '.h', '.py', '.sh', '.md', '.yaml', '.service', under=('agent', 'include', 'tools', 'tests', 'systemd', 'README.md')):
    if path.startswith(('tests/lint/', 'tests/fuzz/corpus/')):
        continue
    for number, line in enumerate(read(path).split('\n'), 1):
        match = re.search(HOSTS, line)
        if match:
            violations.append(f'{path}:{number}: names a registry host of the internet: {match[0]}')

for path in files(under=('tests', 'tools', '.ci')):
    if '/corpus/' not in path and read(path)[:2] == '#!' and not os.access(path, os.X_OK):
        violations.append(f'{path}:1: begins with #! but is not executable')
verdict(violations)
