"""http(s) from a real nginx, and file:// below configured roots."""
import concurrent.futures
import gzip
import json
import os
import re
import stat
import subprocess

import pytest

from content import COMPONENT, gz, tar, tar_link, wasm, zst
from e2e_images import body_of, hexes, unique
from e2e_servers import NGINX, Nginx


def name_of(suffix):
    return unique('f').replace('/', '-') + suffix


@pytest.mark.parametrize('suffix, pack', [
    ('.wasm', lambda module: module), ('.gz', gz), ('.members.gz', lambda module: gz(module[:20]) + gz(module[20:])), ('.zst', lambda module: subprocess.run(['zstd', '-q'], input=module, capture_output=True, check=True).stdout),
    ('.frames.zst', zst), ('.tar', lambda module: tar([('x/plugin.wasm', module)])), ('.tar.gz', lambda module: gz(tar([('plugin.wasm', module)]))), ('.tar.zst', lambda module: zst(tar([('plugin.wasm', module)]))),
    ('.gz.gz', lambda module: gz(gz(module))), ('.tar.gz.gz', lambda module: gz(gz(tar([('plugin.wasm', module)]))))])
def test_http(daemon, nginx, suffix, pack):
    module = wasm(suffix)
    url = nginx.put(name_of(suffix), pack(module))
    got = daemon.good(url, sha256=hexes(module))
    assert body_of(got['path']) == module and 'digest' not in got and got['source'] == 'pulled'
    assert daemon.good(url)['source'] == 'cache'


def test_http_refusals(daemon, nginx):
    module = wasm('refused')
    url = nginx.put(name_of('.wasm.gz'), gz(module))
    daemon.bad(url, 'checksum_mismatch', sha256=hexes(gz(module)))
    assert daemon.good(url, sha256=hexes(module))
    daemon.bad(f'{nginx.scheme}://{nginx.host}/absent.wasm', 'not_found', 404)
    daemon.bad('http://127.0.0.1:1/x.wasm', 'upstream_unreachable')
    assert 'component' in daemon.bad(nginx.put(name_of('.wasm'), COMPONENT + bytes(8)), 'not_wasm')
    daemon.bad(nginx.put(name_of('.html'), b'<html>no</html>'), 'not_wasm')
    daemon.bad(nginx.put(name_of('.wasm'), b''), 'not_wasm')
    daemon.bad(nginx.put(name_of('.gz'), gz(module)[:-9]), 'upstream_error')
    too_deep = gz(gz(gz(gz(module))))
    assert daemon.get(nginx.put(name_of('.gz'), too_deep)).status in (400, 413, 422)
    assert daemon.get(nginx.put(name_of('.gz'), gzip.compress(bytes(64 << 20), 9))).code in ('too_large', 'not_wasm')


@pytest.mark.skipif(not NGINX, reason='nginx is not installed')
@pytest.mark.parametrize('status', [429, 503])
def test_a_server_that_limits(make_daemon, start_server, status):
    """nginx with limit_req, which names no time, and six files at once by the default retries: each comes, for they wait for the server together."""
    limited = start_server(Nginx, around='limit_req_zone $binary_remote_addr zone=all:1m rate=2r/s;', extra=f'limit_req zone=all; limit_req_status {status};')
    daemon = make_daemon(pull={'retries': 3})
    modules = [wasm(unique('limited')) for _ in range(6)]
    urls = [limited.put(name_of('.wasm'), module) for module in modules]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda url: daemon.get(url, timeout='2m'), urls))
    assert [answer.status for answer in got] == [200] * 6, [answer.body for answer in got if answer.status != 200]
    assert [answer.json['sha256'] for answer in got] == [hexes(module) for module in modules]
    waits = re.search(r'^wasmcached_fetch_waits_total (\d+)$', daemon.ask('GET', '/metrics', to='admin').body.decode(), re.M)
    assert waits and int(waits[1]) >= 1


def test_http_policies_and_etag(daemon, nginx):
    name = name_of('.wasm')
    first, second = wasm('first ' + name), wasm('second ' + name)
    url = nginx.put(name, first)
    assert daemon.good(url)['sha256'] == hexes(first)
    assert daemon.good(url)['source'] == 'cache'
    assert daemon.good(url, imagePullPolicy='IfNotPresent')['source'] == 'cache'
    assert len(nginx.lines(name)) == 1
    assert daemon.good(url, imagePullPolicy='Always')['source'] == 'revalidated'
    method, _, status, _, tag = nginx.lines(name)[-1]
    assert (method, status) == ('GET', '304') and tag != '-'
    os.utime(os.path.join(nginx.files, name), (1, 1))
    nginx.put(name, second)
    assert daemon.good(url)['sha256'] == hexes(first)
    got = daemon.good(url, imagePullPolicy='Always')
    assert (got['sha256'], got['source']) == (hexes(second), 'pulled')
    assert daemon.good(url)['sha256'] == hexes(second)
    asked = len(nginx.lines(name))
    assert daemon.good(url, imagePullPolicy='Always', sha256=hexes(second))['source'] == 'cache'
    assert len(nginx.lines(name)) == asked


def test_redirects(start_server, make_daemon, nginx):
    module = wasm('redirected')
    nginx.put('target.wasm', module)
    hop = start_server(Nginx, extra=f'location /go {{ return 302 http://{nginx.host}/target.wasm; }} location /loop {{ return 302 /loop; }} location /file {{ return 302 file:///etc/passwd; }} '
                       'location /meta { return 302 http://169.254.169.254/latest; } location /busy { return 503; }')
    daemon = make_daemon()
    assert daemon.good(f'http://{hop.host}/go')['sha256'] == hexes(module)
    assert daemon.get(f'http://{hop.host}/loop').code in ('upstream_error', 'denied')
    assert daemon.get(f'http://{hop.host}/file').status >= 400
    assert 'root:' not in daemon.told()
    assert daemon.get(f'http://{hop.host}/meta').code in ('denied', 'upstream_error', 'upstream_unreachable')
    assert daemon.get(f'http://{hop.host}/busy').code in ('upstream_error', 'upstream_unreachable')


def test_metadata_is_blocked(daemon):
    assert '169.254' in daemon.bad('http://169.254.169.254/latest', 'denied')


def test_network_block(make_daemon, nginx):
    daemon = make_daemon(network={'block': ['127.0.0.0/8']})
    daemon.bad(nginx.put('blocked.wasm', wasm('blocked')), 'denied')
    daemon.configure(network={'block': ['127.0.0.0/8'], 'allow': ['127.0.0.1/32']})
    daemon.ctl_good('reload')
    daemon.good(nginx.put('blocked.wasm', wasm('blocked')))


def test_https(start_server, make_daemon, authority):
    server = start_server(Nginx, tls=authority.sign('web'))
    url = server.put('a.wasm', wasm('over TLS'))
    daemon = make_daemon(registries={server.host: {'ca': authority.ca}})
    assert body_of(daemon.good(url)['path']) == wasm('over TLS')
    stranger = make_daemon()
    assert 'certificate' in stranger.bad(url, 'upstream_unreachable').lower()


# ---- file:// ----
@pytest.fixture
def files(make_daemon, tmp_path):
    root = tmp_path / 'root'
    root.mkdir()
    (tmp_path / 'outside.wasm').write_bytes(wasm('outside'))
    return make_daemon(files={'roots': [str(root)]}), root


def test_file(files):
    daemon, root = files
    (root / 'a.wasm').write_bytes(wasm('a'))
    (root / 'sub').mkdir()
    (root / 'sub' / 'b.tar.gz').write_bytes(gz(tar([('plugin.wasm', wasm('b'))])))
    got = daemon.good(f'file://{root}/a.wasm', sha256=hexes(wasm('a')))
    assert body_of(got['path']) == wasm('a') and 'digest' not in got
    assert got['path'].startswith(daemon.store)
    assert daemon.good(f'FILE://{root}/sub/b.tar.gz')['sha256'] == hexes(wasm('b'))
    daemon.bad(f'file://{root}/a.wasm', 'checksum_mismatch', sha256='d' * 64)
    daemon.bad(f'file://{root}/absent.wasm', 'not_found')


def test_file_is_confined(files, tmp_path):
    daemon, root = files
    (root / 'way').symlink_to(tmp_path / 'outside.wasm')
    (root / 'up').symlink_to('..')
    (root / 'abs').symlink_to('/etc')
    os.mkfifo(root / 'pipe')
    for path in (f'{root}/way', f'{root}/up/outside.wasm', f'{root}/../outside.wasm', f'{tmp_path}/outside.wasm', f'{root}/abs/hostname', '/etc/hostname', '/proc/self/mem', f'{root}2/x.wasm', f'{root}/pipe', str(root)):
        answer = daemon.get(f'file://{path}')
        assert answer.status in (400, 403, 404, 422), (path, answer)
    assert daemon.get(f'file://{tmp_path}/outside.wasm').code == 'denied'
    os.mknod(root / 'socket', stat.S_IFSOCK | 0o600)
    daemon.bad(f'file://{root}/socket', 'denied')
    daemon.bad(f'file://{root}/{"x" * 300}', 'not_found')


def test_file_without_roots(daemon, tmp_path):
    (tmp_path / 'a.wasm').write_bytes(wasm('a'))
    daemon.bad(f'file://{tmp_path}/a.wasm', 'denied', 403)


def test_explain_knows_the_roots(files, tmp_path):
    daemon, root = files
    for path, verdict, code in ((f'{tmp_path}/outside.wasm', 'refused', 'denied'), (f'{root}2/x.wasm', 'refused', 'denied'), (f'{root}/a.wasm', 'miss', None)):
        told = json.loads(daemon.ctl_good('explain', f'file://{path}', '-o', 'json'))
        assert (told['verdict'], told['code']) == (verdict, code), told
        assert ('files.roots' in told['steps'][-1]['detail']) == (code == 'denied'), told


def test_file_is_never_written(files):
    daemon, root = files
    (root / 'a.tar').write_bytes(tar([tar_link('plugin.wasm', b'2', '/etc/passwd')]))
    assert daemon.get(f'file://{root}/a.tar').code in ('unsupported_image', 'not_wasm')
    assert sorted(os.listdir(root)) == ['a.tar']
