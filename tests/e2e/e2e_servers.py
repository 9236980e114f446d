"""e2e_servers: real docker-registry and nginx on loopback with free ports, a CA made with openssl, and a small token server."""
import base64
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.parse

import requests
import yaml

from e2e_daemon import await_true, free_port

REGISTRY = shutil.which('docker-registry')
NGINX = shutil.which('nginx') or ('/usr/sbin/nginx' if os.path.exists('/usr/sbin/nginx') else None)


def run(*words, **how):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, **how).stdout


def basic(user, password):
    return base64.b64encode(f'{user}:{password}'.encode()).decode()


def docker_config(**hosts):
    """docker_config(**{'host:1': ('user', 'password')})"""
    return {'auths': {host: {'auth': basic(*login)} for host, login in hosts.items()}}


class Authority:
    """A CA of its own and what it signs."""

    def __init__(self, folder, name='ca'):
        self.folder = str(folder)
        self.ca = os.path.join(self.folder, name + '.pem')
        self.key = os.path.join(self.folder, name + '.key')
        run('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', f'/CN={name} of a test', '-keyout', self.key, '-out', self.ca,
            '-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign')

    def sign(self, name, names='IP:127.0.0.1,DNS:localhost', use='serverAuth', rsa=False):
        """(certificate, key) files; `names` as in subjectAltName."""
        path = os.path.join(self.folder, name)
        kind = ['rsa:2048'] if rsa else ['ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']
        run('openssl', 'req', '-newkey', *kind, '-nodes', '-subj', f'/CN={name}', '-keyout', path + '.key', '-out', path + '.csr')
        with open(path + '.ext', 'w', encoding='utf-8') as stream:
            stream.write(f'subjectAltName={names}\nextendedKeyUsage={use}\n')
        run('openssl', 'x509', '-req', '-in', path + '.csr', '-CA', self.ca, '-CAkey', self.key, '-CAcreateserial', '-days', '2', '-out', path + '.pem', '-extfile', path + '.ext')
        return path + '.pem', path + '.key'


class Server:
    """A child process with its log; stop() may be followed by start() on the same port."""

    def __init__(self, folder, port=None):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.port = port or free_port()
        self.host = f'127.0.0.1:{self.port}'
        self.log = os.path.join(self.folder, 'log')
        self.process = None

    def launch(self, *command, answers):
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def up():
            assert self.process.poll() is None, self.told()
            try:
                answers()
                return True
            except requests.ConnectionError:
                return False
        await_true(up, 10, f'the start of {command[0]}')
        return self

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def told(self):
        with open(self.log, encoding='utf-8', errors='replace') as stream:
            return stream.read()


class NamedAdapter(requests.adapters.HTTPAdapter):
    """For a server whose certificate has another name than its address."""

    def __init__(self, name):
        self.name = name
        super().__init__()

    def init_poolmanager(self, *arguments, **options):
        super().init_poolmanager(*arguments, assert_hostname=self.name, **options)


class Registry(Server):
    """docker-registry. `config` is merged into its configuration; `login` (user, password) is for the pusher; `tls` (certificate, key[, client CA])."""

    def __init__(self, folder, config=None, login=None, tls=None, client=None, ca=None, port=None, name=None):
        super().__init__(folder, port)
        self.scheme = 'https' if tls else 'http'
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.auth, self.session.verify, self.session.cert = login, ca or True, client
        if name:
            self.session.mount('https://', NamedAdapter(name))
        web = {'addr': self.host, 'secret': 'of a test'}
        if tls:
            web['tls'] = {'certificate': tls[0], 'key': tls[1]}
            if len(tls) > 2:
                web['tls']['clientcas'] = [tls[2]]
        self.config = {'version': 0.1, 'log': {'level': 'info'}, 'storage': {'filesystem': {'rootdirectory': os.path.join(self.folder, 'data')}, 'delete': {'enabled': True}}, 'http': web, **(config or {})}

    def start(self):
        path = os.path.join(self.folder, 'config.yaml')
        with open(path, 'w', encoding='utf-8') as stream:
            yaml.safe_dump(self.config, stream)
        return self.launch(REGISTRY, 'serve', path, answers=lambda: self.session.get(f'{self.scheme}://{self.host}/v2/'))

    def ref(self, repository, tag='v1'):
        return f'oci://{self.host}/{repository}' + ('@' if ':' in tag else ':') + tag

    # ---- the pusher ----
    def put_blob(self, repository, data):
        digest = 'sha256:' + hashlib.sha256(data).hexdigest()
        begun = self.session.post(f'{self.scheme}://{self.host}/v2/{repository}/blobs/uploads/')
        begun.raise_for_status()
        place = urllib.parse.urljoin(f'{self.scheme}://{self.host}/', begun.headers['Location'])
        done = self.session.put(place + ('&' if '?' in place else '?') + 'digest=' + digest, data=data, headers={'Content-Type': 'application/octet-stream'})
        done.raise_for_status()
        return digest

    def put_manifest(self, repository, tag, data, media_type):
        done = self.session.put(f'{self.scheme}://{self.host}/v2/{repository}/manifests/{tag}', data=data, headers={'Content-Type': media_type})
        assert done.status_code == 201, done.text
        return 'sha256:' + hashlib.sha256(data).hexdigest()

    # ---- its access log ----
    def requests(self):
        """[(method, path, status)] so far."""
        return [(method, path, int(status)) for method, path, status in re.findall(r'"([A-Z]+) (\S+) HTTP/[0-9.]+" (\d+)', self.told())]

    def count(self, method, part):
        return sum(1 for verb, path, _ in self.requests() if verb == method and part in path)


class Nginx(Server):
    """Files of `self.files` over http, or over https with `tls`; `extra` are more directives of the server block, `around` of the one around it."""

    def __init__(self, folder, tls=None, extra='', around=''):
        super().__init__(folder)
        self.files = os.path.join(self.folder, 'files')
        os.makedirs(self.files, exist_ok=True)
        os.chmod(self.folder, 0o755)
        self.scheme = 'https' if tls else 'http'
        listen = f'listen {self.host} ssl; ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]};' if tls else f'listen {self.host};'
        self.access = os.path.join(self.folder, 'access')
        with open(os.path.join(self.folder, 'nginx.conf'), 'w', encoding='utf-8') as stream:
            stream.write(f'''daemon off; worker_processes 1; master_process off; pid {self.folder}/pid; error_log stderr;
events {{ worker_connections 512; }}
http {{ log_format plain '$request_method $uri $status $http_range $http_if_none_match'; access_log {self.access} plain; client_body_temp_path {self.folder}/t1; proxy_temp_path {self.folder}/t2;
        fastcgi_temp_path {self.folder}/t3; uwsgi_temp_path {self.folder}/t4; scgi_temp_path {self.folder}/t5; default_type application/octet-stream; {around}
        server {{ {listen} root {self.files}; {extra} }} }}
''')

    def start(self):
        return self.launch(NGINX, '-p', self.folder, '-c', os.path.join(self.folder, 'nginx.conf'), answers=lambda: requests.get(f'{self.scheme}://{self.host}/', verify=False, timeout=5))

    def put(self, name, data):
        path = os.path.join(self.files, name)
        with open(path + '.new', 'wb') as stream:
            stream.write(data)
        os.replace(path + '.new', path)
        return f'{self.scheme}://{self.host}/{name}'

    def lines(self, name):
        with open(self.access, encoding='utf-8') as stream:
            return [line.split(' ') for line in stream.read().splitlines() if f' /{name} ' in line]


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b'=').decode()


class TokenServer:
    """A token service as Docker's specification has it (GET and OAuth2 POST), RS256 by the openssl program. `logins`: user -> password; anonymous callers get tokens for repositories that start with `public`."""

    def __init__(self, folder, logins):
        os.makedirs(folder, exist_ok=True)
        authority = Authority(folder, 'tokens')
        self.bundle, self.key = authority.sign('signer', rsa=True)
        self.logins, self.asked, self.port = logins, [], free_port()
        self.host = f'127.0.0.1:{self.port}'
        self.realm = f'http://{self.host}/token'
        der = run('openssl', 'x509', '-in', self.bundle, '-outform', 'DER')
        self.header = {'typ': 'JWT', 'alg': 'RS256', 'x5c': [base64.b64encode(der).decode()]}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                given = self.headers.get('Authorization', '')
                user, _, password = base64.b64decode(given[6:]).decode().partition(':') if given.startswith('Basic ') else ('', '', '')
                self.grant('GET', user, password, query)

            def do_POST(self):
                query = urllib.parse.parse_qs(self.rfile.read(int(self.headers.get('Content-Length') or 0)).decode())
                user = query.get('username', [''])[0]
                if query.get('grant_type') == ['refresh_token']:
                    user = next((name for name, secret in outer.logins.items() if [secret] == query.get('refresh_token')), 'nobody')
                    self.grant('POST', user, outer.logins.get(user), query)
                else:
                    self.grant('POST', user, query.get('password', [''])[0], query)

            def grant(self, method, user, password, query):
                outer.asked.append((method, user, query.get('scope', [''])[0]))
                if user and outer.logins.get(user) != password or user == 'nobody':
                    return self.answer(401, {'errors': [{'code': 'UNAUTHORIZED'}]})
                token = outer.sign(user, ' '.join(query.get('scope', [])).split(), query.get('service', [''])[0])
                return self.answer(200, {'token': token, 'access_token': token, 'expires_in': 300})

            def answer(self, status, body):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header('Content-Type', 'application/json')
                self.send_header('Content-Length', str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def sign(self, user, scopes, service):
        access = []
        for scope in scopes:
            kind, name, actions = scope.rsplit(':', 1)[0].partition(':')[0], scope.rsplit(':', 1)[0].partition(':')[2], scope.rsplit(':', 1)[1].split(',')
            if user or name.startswith('public'):
                access.append({'type': kind, 'name': name, 'actions': actions if user else [action for action in actions if action == 'pull']})
        now = int(time.time())
        claims = {'iss': 'tokens of a test', 'sub': user, 'aud': service, 'exp': now + 300, 'nbf': now - 10, 'iat': now - 10, 'jti': os.urandom(8).hex(), 'access': access}
        text = b64(json.dumps(self.header).encode()) + '.' + b64(json.dumps(claims).encode())
        return text + '.' + b64(run('openssl', 'dgst', '-sha256', '-sign', self.key, input=text.encode()))

    def auth(self):
        return {'auth': {'token': {'realm': self.realm, 'service': 'of a test', 'issuer': 'tokens of a test', 'rootcertbundle': self.bundle}}}

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
