"""The list of differences itself: nothing in it is left over. Runs after the tests of the signers, whose files stand before this one."""
import pathlib

import pytest

import signers
import verdicts

FILES = {'test_signers.py', 'test_signers_files.py', 'test_signers_npm.py', 'test_signers_wasm.py'}


@pytest.mark.skipif(signers.missing(*signers.COSIGNS, 'wasmsign2', 'node') != '', reason=signers.missing(*signers.COSIGNS, 'wasmsign2', 'node'))
def test_every_difference_was_seen(request):
    ran = {pathlib.Path(item.path).name for item in request.session.items}
    if not FILES <= ran or request.config.getoption('keyword') or any('::' in word for word in request.config.args):
        pytest.skip('only some of the tests of the signers ran')
    assert [row for row in verdicts.DIFFERENCES if row not in verdicts.seen] == []


def test_reasons():
    """Every row says why, and no two are for the same."""
    assert all(len(why) > 40 for *_, why in verdicts.DIFFERENCES) and all(verdicts.CANNOT.values())
    assert len({row[:2] for row in verdicts.DIFFERENCES}) == len(verdicts.DIFFERENCES)
