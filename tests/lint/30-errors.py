# The error table: order of the enum, and every wire name has its line in the README (troubleshooting by code).
import os
import re

from laws import read, verdict

violations = []
enum = re.search(r'enum error_code \{(.*?)ERROR_CODES', read('include/wasmcached/base/error.h'), re.S)
names = [name.lower() for name in re.findall(r'ERROR_([A-Z_]+)', enum[1]) if name != 'NONE']
readme = read('README.md') if os.path.exists('README.md') else None
if readme is None:
    violations.append('README.md:1: is not there')
else:
    violations += [f'README.md:1: says nothing of the error code `{name}`' for name in names if f'`{name}`' not in readme]
if os.path.exists('agent/base/error.c'):
    table = [name for name in re.findall(r'^\s*(?:\[\w+\]\s*=\s*)?\{\s*"([a-z_]+)"', read('agent/base/error.c'), re.M) if name not in ('none', 'ok')]
    if table != names:
        violations.append(f'agent/base/error.c:1: the table names {sorted(set(table) ^ set(names)) or "the codes in another order"}')
verdict(violations)
