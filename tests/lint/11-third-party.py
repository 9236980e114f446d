# A third-party header is included in its rooms only.
import re

from laws import files, read, verdict

RULES = [  # header → where it may stand
    (r'uv\.h|uv/.*', r'agent/(loop|serve)/'),
    (r'curl/.*', r'agent/fetch/'),
    (r'sqlite3(ext)?\.h', r'agent/store/'),
    (r'openssl/.*', r'agent/(base/digest\.c|trust/)'),
    (r'sodium(/.*|\.h)', r'agent/trust/'),
    (r'zstd.*\.h|zlib\.h|zconf\.h|isa-l(/.*|\.h)|igzip_lib\.h|crc\.h|lzma\.h|bzlib\.h', r'agent/unpack/'),
    (r'archive(_entry)?\.h', r'(agent/unpack|tools/wasmcachectl)/'),
    (r'jansson.*\.h|yaml\.h', r'agent/base/'),
    (r'microhttpd.*\.h|nghttp2/.*', r'agent/serve/'),
    (r'protobuf-c/.*', r'agent/xds/'),
    (r'systemd/.*', r'agent/daemon/'),
    (r'cmocka\.h', r'tests/'),
]
violations = []
for path in files('.c', '.h', under=('agent', 'include', 'tools')):
    text = read(path)
    for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]', text, re.M):
        for header, place in RULES:
            if re.fullmatch(header, match[1]) and not re.match(place, path):
                violations.append(f'{path}:{text.count(chr(10), 0, match.start()) + 1}: <{match[1]}> may be included in {place} only')
verdict(violations)
