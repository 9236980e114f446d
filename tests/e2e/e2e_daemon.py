"""e2e_daemon: the real wasmcached in a folder of its own, what is said to it over its sockets, and the real wasmcachectl."""
import http.client
import json
import os
import signal
import socket
import subprocess
import time

import yaml

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get('WASMCACHED_BUILD') or os.path.join(SOURCE, 'build', 'test'))
DAEMON = os.path.join(BUILD, 'wasmcached')
CTL = os.path.join(BUILD, 'wasmcachectl')


def free_port():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        return taken.getsockname()[1]


def await_true(check, seconds=10, what='what was waited for'):
    """The first true value of check(); looks every 10 ms. A machine that stood still (a virtual one that was paused) does not count: of each look at most 5 s do."""
    spent, last = 0, time.monotonic()
    while True:
        value = check()
        if value:
            return value
        assert spent < seconds, f'{what} did not come about in {seconds} s'
        time.sleep(0.01)
        now = time.monotonic()
        spent, last = spent + min(now - last, 5), now


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=60):
        super().__init__('localhost', timeout=timeout)
        self.socket_path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.socket_path)


class Answer:
    def __init__(self, response, body):
        self.status, self.headers, self.body = response.status, {name.lower(): value for name, value in response.getheaders()}, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The code of a problem; asserts that it is one as RFC 9457 wants it."""
        assert self.headers['content-type'] == 'application/problem+json', (self.status, self.body)
        problem = self.json
        assert problem['status'] == self.status and problem['title'] and problem['detail']
        return problem['code']

    def __repr__(self):
        return f'{self.status} {self.body[:600]!r}'


def ask(path, method, target, body=None, headers=None, timeout=60):
    connection = UnixConnection(path, timeout)
    try:
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        connection.request(method, target, data, {'Content-Type': 'application/json', **(headers or {})} if data is not None else headers or {})
        response = connection.getresponse()
        return Answer(response, response.read())
    finally:
        connection.close()


class Daemon:
    """Configuration is a dict; the defaults make everything private to `folder`. start() waits for the admin socket."""

    def __init__(self, folder, **config):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        os.chmod(self.folder, 0o755)
        self.store = os.path.join(self.folder, 'store')
        self.agent = os.path.join(self.folder, 'agent.sock')
        self.admin = os.path.join(self.folder, 'admin.sock')
        self.trusted = os.path.join(self.folder, 'trusted.sock')
        self.team = os.path.join(self.folder, 'team.sock')
        self.secrets = os.path.join(self.folder, 'secrets')
        self.file = os.path.join(self.folder, 'config.yaml')
        self.log = os.path.join(self.folder, 'stderr.log')
        self.process = None
        self.config = {
            'listeners': [{'path': self.agent, 'identity': 'fixed', 'namespace': 'default'}, {'path': self.team, 'identity': 'fixed', 'namespace': 'team-a', 'module_dir': '/seen/{namespace}/here'},
                          {'path': self.trusted, 'identity': 'trusted'}],
            'admin': {'path': self.admin}, 'store': {'root': self.store}, 'credentials': {'secrets_dir': self.secrets}, 'pull': {'retries': 0, 'negative_time': '0s'}}
        os.makedirs(self.secrets, exist_ok=True)
        self.configure(**config)

    def configure(self, **config):
        for key, value in config.items():
            if isinstance(value, dict) and isinstance(self.config.get(key), dict):
                self.config[key] = {**self.config[key], **value}
            else:
                self.config[key] = value
        with open(self.file, 'w', encoding='utf-8') as stream:
            yaml.safe_dump(self.config, stream)

    def start(self, wait=True, environment=None):
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen([DAEMON, '--config', self.file], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(environment or {})})
        if wait:
            await_true(self.is_up, 10, f'the start of wasmcached ({self.log})')
        return self

    def is_up(self):
        assert self.process.poll() is None, f'wasmcached ended with {self.process.returncode}: {self.told()}'
        try:
            return ask(self.admin, 'GET', '/healthz').status == 200
        except OSError:
            return False

    def stop(self, number=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(20) if self.process else None
        self.process = None
        return code

    def restart(self, number=signal.SIGTERM):
        self.stop(number)
        return self.start()

    def told(self):
        with open(self.log, encoding='utf-8', errors='replace') as stream:
            return stream.read()

    def ask(self, method, target, body=None, *, to='agent', headers=None, timeout=60):
        return ask(getattr(self, to), method, target, body, headers, timeout)

    def get(self, url, *, to='agent', **fields):
        return self.ask('POST', '/v1/modules', {'url': url, **fields}, to=to)

    def good(self, url, **fields):
        """The module object; asserts that there is one, that the file is there and has the sha256 of its name."""
        answer = self.get(url, **fields)
        assert answer.status == 200, (answer, self.told()[-3000:])
        return answer.json

    def bad(self, url, code, status=None, **fields):
        answer = self.get(url, **fields)
        assert answer.status >= 400, answer
        assert answer.code == code, answer
        assert status is None or answer.status == status, answer
        return answer.json['detail']

    def ctl(self, *words, to='admin', stdin=None, timeout=60):
        return subprocess.run([CTL, '--socket', getattr(self, to), *map(str, words)], input=stdin, capture_output=True, text=True, check=False, timeout=timeout)

    def ctl_good(self, *words, **how):
        ran = self.ctl(*words, **how)
        assert ran.returncode == 0, (words, ran.stdout, ran.stderr)
        return ran.stdout

    def metric(self, name):
        """The sum of all series of a family."""
        total = 0.0
        for line in self.ask('GET', '/metrics', to='admin').body.decode().splitlines():
            if line.startswith(name) and line[len(name)] in ' {':
                total += float(line.rsplit(' ', 1)[1])
        return total

    def put_secret(self, namespace, name, text, key='.dockerconfigjson'):
        folder = os.path.join(self.secrets, namespace, name)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, key), 'w', encoding='utf-8') as stream:
            stream.write(text if isinstance(text, str) else json.dumps(text))
        return folder
