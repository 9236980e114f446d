# A file includes doors of lower layers and headers of its own room. Rooms of one layer never meet. tools/ sees wasmcache.h and base only. No private header crosses a wall.
import os
import re

from laws import LAYERS, files, read, verdict

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def room_of(path):
    parts = path.split('/')
    if parts[0] == 'agent':
        return parts[1]
    if path.startswith('include/wasmcached/base/'):
        return 'base'
    if path.startswith('include/wasmcached/'):
        return parts[2].removesuffix('.h')
    return 'tools' if parts[0] == 'tools' else None


def complaint(path, room, kind, name):
    if name.startswith('wasmcached/'):
        door = name.split('/')[1].removesuffix('.h')
        if kind == '"':
            return f'a door is included with <>, not "{name}"'
        if door == room or door == 'base':
            return None
        if room == 'tools':
            return f'tools may use wasmcache.h and base only, not the door of {door}'
        if door not in LAYERS:
            return f'no such room: {door}'
        if LAYERS[door] >= LAYERS[room]:
            return f'{room} (layer {LAYERS[room]}) may not see {door} (layer {LAYERS[door]})'
    elif kind == '"':
        if '/' in name:
            return f'a private header is included by its bare name, not "{name}"'
        if not os.path.exists(os.path.join(os.path.dirname(path), name)):
            return f'"{name}" is no header of this room'
    elif name == 'wasmcache.h' and room != 'tools':
        return 'wasmcache.h is for clients, the agent does not use it'
    return None


violations = []
for path in files('.c', '.h', under=('agent', 'include', 'tools')):
    room = room_of(path)
    if path == 'include/wasmcache.h' or path.startswith('tools/plugin/'):
        continue
    if room != 'tools' and room not in LAYERS:
        violations.append(f'{path}:1: {room} is no room of the plan')
        continue
    text = read(path)
    for match in INCLUDE.finditer(text):
        problem = complaint(path, room, match[1], match[2])
        if problem:
            violations.append(f'{path}:{text.count(chr(10), 0, match.start()) + 1}: {problem}')
verdict(violations)
