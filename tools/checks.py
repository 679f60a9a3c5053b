# SPDX-License-Identifier: BSD-2-Clause
"""What the check-* tools share: the rooms, the source files, the outcome."""
import os
import shutil
import sys
import tempfile

LIBRARY_ROOMS = ('wire', 'table', 'client', 'dma', 'irq', 'mmio', 'migration',
                 'pci', 'kvm', 'server')
PROGRAM_ROOMS = ('backends', 'vmm', 'tools', 'bench', 'examples', 'fuzz')
ALL_ROOMS = ('include',) + LIBRARY_ROOMS + PROGRAM_ROOMS + ('tests', 'docs')


def files(root, suffixes, rooms=ALL_ROOMS):
    """Paths relative to root, sorted; build trees are never looked into."""
    found = []
    for room in rooms:
        for folder, folders, names in os.walk(os.path.join(root, room)):
            folders[:] = [f for f in folders
                          if not f.startswith(('.', 'build', '__'))]
            for name in names:
                if name.endswith(suffixes):
                    path = os.path.join(folder, name)
                    found.append(os.path.relpath(path, root))
    return sorted(found)


def read(root, path):
    with open(os.path.join(root, path), encoding='utf-8',
              errors='replace') as file:
        return file.read()


def strip_comments(text, strings=True):
    """Blanks comments (and what is inside quotes), keeping every newline."""
    out, i, size = [], 0, len(text)
    while i < size:
        two = text[i:i + 2]
        if two == '/*':
            end = text.find('*/', i + 2)
            end = size if end < 0 else end + 2
        elif two == '//':
            end = text.find('\n', i)
            end = size if end < 0 else end
        elif text[i] in '"\'' and strings:
            end = i + 1
            while end < size and text[end] not in (text[i], '\n'):
                end += 2 if text[end] == '\\' else 1
            end = min(end + 1, size)
        else:
            out.append(text[i])
            i += 1
            continue
        # A space: so that what stood around it is not joined into a word.
        out.append(' ' + ''.join(c for c in text[i:end] if c == '\n'))
        i = end
    return ''.join(out)


def report(tool, problems):
    for problem in problems:
        print(f'{tool}: {problem}')
    if not problems:
        print(f'{tool}: ok')
    return 1 if problems else 0


class Planted:
    """A small tree in which a self-test plants one violation after another."""

    def __init__(self, tool, good):
        self.tool, self.good, self.failed = tool, good, 0

    def run(self, check, files_, fragment):
        """check(root) must complain with `fragment`; None: must be content."""
        root = tempfile.mkdtemp(prefix='cleat-check-')
        try:
            for path, text in {**self.good, **files_}.items():
                path = os.path.join(root, path)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, 'w', encoding='utf-8') as file:
                    file.write(text)
            problems = check(root)
        finally:
            shutil.rmtree(root)
        if fragment is None:
            good = not problems
        else:
            good = any(fragment in problem for problem in problems)
        if not good:
            self.failed += 1
            print(f'{self.tool}: self-test: wanted {fragment!r} from '
                  f'{sorted(files_)}, got {problems}')

    def end(self):
        print(f'{self.tool}: self-test: '
              + ('ok' if not self.failed else f'{self.failed} wrong'))
        return 1 if self.failed else 0


def main(tool, check, self_test):
    """For the tools that need nothing but the tree."""
    if sys.argv[1:] == ['--self-test']:
        return self_test()
    if len(sys.argv) > 2 or sys.argv[1:2] in (['--help'], ['-h']):
        print(f'usage: {tool} [ROOT | --self-test]')
        return 0 if sys.argv[1:2] in (['--help'], ['-h']) else 2
    here = os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[0])))
    return report(tool, check(sys.argv[1] if sys.argv[1:] else here))
