"""What the laws have in common: the list of files, and one way to complain."""
import os
import subprocess
import sys

LAYERS = {'base': 0, 'loop': 1, 'fetch': 1, 'registry': 2, 'credential': 2, 'kube': 2, 'trust': 2, 'unpack': 2, 'store': 2, 'serve': 2,
          'module': 3, 'plugin': 4, 'api': 5, 'xds': 5, 'daemon': 6}


def files(*suffixes, under=('agent', 'include', 'tools', 'tests')):
    """Files of the tree (tracked or not yet added, ignored ones left out), sorted."""
    try:
        listed = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], capture_output=True, check=True).stdout.decode().split('\0')
    except (OSError, subprocess.CalledProcessError):        # a source archive without git
        listed = [os.path.join(top, name)[2:] for top, _, names in os.walk('.') for name in names if '/build' not in top and '/.git' not in top]
    return sorted(path for path in listed
                  if path and os.path.isfile(path) and (not suffixes or path.endswith(suffixes)) and (not under or path.split('/')[0] in under))


def read(path):
    with open(path, encoding='utf-8', errors='replace') as stream:
        return stream.read()


def verdict(violations):
    for line in violations:
        print(line)
    sys.exit(1 if violations else 0)
