"""The mutants of a C source: each takes one check away. A condition of an `if` that leaves (return, continue) never holds, operand by operand; a conjunct of a returned or kept truth always does.
What was evaluated still is, so that outputs are set and memory is read as before."""
import re

COMPARES = re.compile(r'[!=<>]=|(?<!-)[<>](?![<>=])|\b(?:memcmp|strcmp|strncmp|memchr|memmem)\b|!')


def mask(text):
    """The text with comments and literals blanked, so that brackets and operators in it are the code's."""
    out = list(text)
    for match in re.finditer(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'', text, re.S):
        for at in range(match.start(), match.end()):
            if out[at] != '\n':
                out[at] = '~'
    return ''.join(out)


def close(masked, at):
    """Where the bracket that opens at `at` closes."""
    depth = 0
    for here in range(at, len(masked)):
        depth += (masked[here] in '([{') - (masked[here] in ')]}')
        if depth == 0:
            return here
    raise ValueError('unbalanced')


def split(masked, start, end, operator):
    """Spans of [start, end) between the top-level `operator`s."""
    spans, depth, last, at = [], 0, start, start
    while at < end:
        depth += (masked[at] in '([{') - (masked[at] in ')]}')
        if depth == 0 and masked.startswith(operator, at):
            spans.append((last, at))
            at += len(operator)
            last = at
            continue
        at += 1
    spans.append((last, end))
    return spans


def trim(masked, start, end):
    while start < end and masked[start].isspace():
        start += 1
    while end > start and masked[end - 1].isspace():
        end -= 1
    return start, end


def unwrap(masked, start, end):
    """Inside of a pair of brackets around all of it, or None."""
    start, end = trim(masked, start, end)
    return (start + 1, end - 1) if start < end and masked[start] == '(' and close(masked, start) == end - 1 else None


def never(masked, start, end):
    """Spans that are made false, one at a time, in a condition that must not hold."""
    start, end = trim(masked, start, end)
    ors = split(masked, start, end, '||')
    if len(ors) > 1:
        for span in ors:
            yield from never(masked, *span)
        return
    inner = unwrap(masked, start, end)
    if inner:
        yield from never(masked, *inner)
        return
    yield start, end, '0'
    for span in split(masked, start, end, '&&'):
        inner = unwrap(masked, *span)
        if inner and len(split(masked, *inner, '||')) > 1:
            yield from never(masked, *inner)


def always(masked, start, end, top=True):
    """Spans that are made true, one at a time, in a truth that is the answer."""
    start, end = trim(masked, start, end)
    ors, ands = split(masked, start, end, '||'), split(masked, start, end, '&&')
    if len(split(masked, start, end, '?')) > 1:
        if COMPARES.search(masked, start, end):
            yield start, end, '1'
        return
    if len(ors) > 1:
        for span in ors[:1]:
            yield from always(masked, *span, False)
        for span in ors[1:]:
            inner = unwrap(masked, *span)
            if inner:
                yield from always(masked, *inner, False)
    elif len(ands) > 1:
        for span in ands:
            yield from always(masked, *span, False)
    elif unwrap(masked, start, end):
        yield from always(masked, *unwrap(masked, start, end), top)
    elif not top or COMPARES.search(masked, start, end):
        yield start, end, '1'


def function_at(text, at):
    heads = [match for match in re.finditer(r'^[a-z][^\n;={}]*?(\w+)\([^;{}]*\)\s*\n\{', text[:at], re.M)]
    return heads[-1][1] if heads else '?'


def spans(text):
    masked = mask(text)
    for match in re.finditer(r'\bif \(', masked):
        opened = match.end() - 1
        closed = close(masked, opened)
        body = masked[closed + 1:].lstrip()
        if body.startswith('{'):
            body = body[:close(body, 0) + 1]
        else:
            body = body[:body.index(';') + 1]
        if re.search(r'\b(?:return|continue|break)\b', body):
            yield from never(masked, opened + 1, closed)
    for match in re.finditer(r'\breturn\b|\bbool \w+ =|\bgood =', masked):
        end = masked.index(';', match.end())
        yield from always(masked, match.end(), end)


def make(path, text):
    """(function, expression, line, mutated text) of every mutant."""
    for start, end, value in sorted(set(spans(text))):
        expression = text[start:end]
        if not expression or re.fullmatch(r'\s*(?:true|false|NULL|-?\d+|\w+)\s*', expression) and value == '1':
            continue
        mutated = f'{text[:start]}((void)({expression}), {value}){text[end:]}'
        yield function_at(text, start), re.sub(r'\s+', ' ', expression), text.count('\n', 0, start) + 1, mutated
