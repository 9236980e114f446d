"""What the README shows is true: its configuration is accepted, its commands and options exist, its table of codes is the daemon's."""
import os
import re
import subprocess

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ['WASMCACHED_BUILD']


def readme():
    with open(os.path.join(SOURCE, 'README.md'), encoding='utf-8') as stream:
        return stream.read()


def output(*words):
    return subprocess.run([os.path.join(BUILD, words[0]), *words[1:]], capture_output=True, text=True, check=True).stdout


def test_configuration(tmp_path):
    example = re.search(r'```yaml\n(.*?)```', readme(), re.S)[1]
    certificate = tmp_path / 'ca.pem'
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=ca', '-keyout', '/dev/null', '-out', certificate],
                   capture_output=True, check=True)
    (tmp_path / 'config.yaml').write_text(example.replace('/etc/wasmcached/registry-ca.pem', str(certificate)))
    result = subprocess.run([os.path.join(BUILD, 'wasmcached'), '--config', tmp_path / 'config.yaml', '--check-config'], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, '')


def test_commands():
    text = readme()
    known = set(re.findall(r'^  ([a-z]+) ', output('wasmcachectl', 'help').split('Options')[0], re.M))
    named = set(re.findall(r'wasmcachectl ([a-z]+)', text)) - {'exits', 'with'}
    assert named and named <= known
    fields = re.search(r'\| field .*?\n\n', text, re.S)[0]
    shown = output('wasmcachectl', 'get', '--help')
    for option in re.findall(r'`(-[a-z0-9-]+)', fields):
        assert re.search(rf'(^|[ ,]){option}[ ,]', shown, re.M), option


def test_codes():
    with open(os.path.join(SOURCE, 'agent/base/error.c'), encoding='utf-8') as stream:
        table = dict(re.findall(r'\{ "([a-z_]+)", (\d+), ERROR_RETRY', stream.read()))
    del table['none']
    assert dict(re.findall(r'^\| `([a-z_]+)` \| (\d+) \|', readme(), re.M)) == table


def test_options():
    manual = output('wasmcached', '--print-config')
    for option in re.findall(r'`((?:pull|store|network|files|registries|limits|credentials|trust|kubernetes)[{}]*\.[a-z_]+)`', readme()):
        assert re.search(rf'\b{option.split(".")[1]}\b', manual + output('wasmcached', '--print-manual')), option
