/** plakarctl as a program: what it prints, where, and its exit codes, against a control process of the test's. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { COMMANDS } from '../../src/client/commands.ts';
import { EXIT_CODES, Failure, type FailureKind } from '../../src/error.ts';
import * as client from '../../src/messages/client.ts';
import { Daemon, events, serveReader } from './daemon.ts';
import { headerOf, ODD_NAME, plantTree, TestChunks } from './tree.ts';

const NO_STATE = { goodMs: undefined, snapshot: undefined, watch: undefined };
const SUMMARY = {
  snapshot: '99e53a9c-4f2a-4b7c-8d9e-0f1a2b3c4d5e',
  repository: 'local',
  source: 'home',
  parent: undefined,
  files: 10,
  directories: 2,
  others: 1,
  bytes: 11_000_000,
  filesNew: 1,
  filesChanged: 2,
  filesUnchanged: 7,
  unreadable: 0,
  inconsistent: 0,
  excluded: 0,
  readBytes: 5_000_000,
  addedBytes: 4_000_000,
  storedBytes: 1_000_000,
  durationMs: 1900,
};
const COST =
  '1 file new, 2 changed, 7 unchanged, 0 unreadable; 5.0 MB read, 4.0 MB added, 1.0 MB stored; 1.9 s';

describe('plakarctl', { concurrency: false }, () => {
  const daemon = new Daemon();
  before(() => daemon.start());
  after(() => daemon.stop());

  test('every kind of refusal has its exit code, its line, and its object with -j', async () => {
    for (const kind of Object.keys(EXIT_CODES) as FailureKind[]) {
      daemon.serve = (channel) =>
        channel.handler(client.INFO, () => {
          throw new Failure('open repository', 'far', { cause: 'because', remedy: 'do this', kind });
        });
      const { code, text, stderr } = await daemon.run('on', 'far', 'info');
      assert.equal(stderr, 'plakarctl: info far: open repository far: because (do this)\n');
      assert.equal(text, '');
      assert.equal(code, EXIT_CODES[kind]);
    }
    const [event] = events(await daemon.run('-j', 'on', 'far', 'info'));
    const text = 'info far: open repository far: because (do this)';
    assert.deepEqual(event, { event: 'error', kind: 'interrupted', text, exitCode: 130 });
  });

  test('usage errors are 2, and say what would be right', async () => {
    const { code, stderr } = await daemon.run('puhs');
    assert.deepEqual([code, stderr], [2, 'plakarctl: command puhs: unknown (did you mean push?)\n']);
  });

  test('a daemon that is not there', async () => {
    const { code, stderr } = await daemon.run('-s', '/nonexistent/s', 'status');
    assert.equal(code, 1);
    assert.equal(
      stderr,
      'plakarctl: status: connect /nonexistent/s: no such file or directory (is plakard running?)\n',
    );
  });

  test('a daemon that goes away in the middle', async () => {
    daemon.serve = (channel) => channel.handler(client.CHECK, () => channel.close());
    const { code, stderr } = await daemon.run('check');
    assert.equal(code, 1);
    assert.equal(stderr, 'plakarctl: check: plakard ended the connection (its log says why)\n');
  });

  test('push: the UUID, the cost, and problems as they come', async () => {
    let tags: readonly string[] = [];
    let cost = SUMMARY;
    daemon.serve = (channel) =>
      channel.handler(client.PUSH, (message) => {
        tags = message.payload.tags;
        const state = { bytesExpected: undefined, filesExpected: undefined, storedBytes: 0, problems: 0 };
        channel.message(client.PROGRESS, { job: 1, operation: 'push', files: 1, bytes: 1, ...state });
        if (cost.unreadable > 0) {
          const paths = [Buffer.from('/home/a/mail\n.db')];
          channel.message(client.PROBLEM, {
            job: 1,
            object: '',
            text: 'permission denied',
            paths,
            more: undefined,
          });
        }
        channel.reply(message, client.PUSHED, cost);
      });
    const plain = await daemon.run('push', '-tag', 'a', '--tag=b', 'home');
    assert.deepEqual(tags, ['a', 'b']);
    assert.deepEqual([plain.code, plain.stderr], [0, ''], 'no progress where there is no terminal');
    assert.equal(plain.text, `${SUMMARY.snapshot}\n${COST}\n`);
    assert.equal((await daemon.run('-q', 'push', 'home')).text, `${SUMMARY.snapshot}\n`);
    cost = { ...SUMMARY, unreadable: 1 };
    const partial = await daemon.run('push', 'home');
    assert.equal(partial.code, 3);
    assert.equal(
      partial.stderr,
      'plakarctl: push home: read /home/a/mail\\n.db: permission denied\nplakarctl: push home: 1 file could not be read\n',
    );
    const [problem, pushed, error] = events(await daemon.run('-j', 'push', 'home'));
    assert.deepEqual(problem?.paths, [{ path: '/home/a/mail\n.db' }]);
    assert.deepEqual([pushed?.event, pushed?.snapshot], ['pushed', SUMMARY.snapshot]);
    assert.deepEqual([error?.event, error?.exitCode], ['error', 3]);
  });

  test('push goes on after a source that failed, and ends with the gravest', async () => {
    daemon.serve = (channel) =>
      channel.handler(client.PUSH, (message) => {
        const { source } = message.payload;
        if (source === 'bad') throw new Failure('read source', 'bad', { kind: 'damaged' });
        channel.reply(message, client.PUSHED, { ...SUMMARY, unreadable: source === 'part' ? 1 : 0 });
      });
    const { code, text, stderr } = await daemon.run('-q', 'push', 'part', 'bad', 'good');
    assert.equal(code, 14);
    assert.equal(text, `${SUMMARY.snapshot}\n`.repeat(2));
    assert.equal(stderr.split('\n').length, 3);
  });

  test('push without an operand names the sources', async () => {
    daemon.serve = (channel) =>
      channel.handler(client.STATUS, (message) => {
        const sources = ['home', 'etc'].map((name) => ({ name, paths: [`/${name}`], ...NO_STATE }));
        const rest = { repositories: [], processes: [], jobs: [], pushes: [], tasks: [], paused: undefined };
        const status = {
          version: '1',
          pid: 1,
          startedMs: 0,
          configuration: '/etc/plakard.conf',
          sources,
          ...rest,
        };
        channel.reply(message, client.STATUS_IS, status);
      });
    const { code, stderr } = await daemon.run('push');
    assert.equal(code, 2);
    assert.equal(stderr, 'plakarctl: push: missing operand (home, etc, or a path)\n');
  });

  test('status: pushes with their schedule and their troubles', async () => {
    const ofHome = { name: 'home to local', operation: 'push', source: 'home', repository: 'local' };
    const push = { ...ofHome, running: false, missed: false, failures: 0, watched: false };
    const times = { nextMs: 0, lastMs: 0, endMs: 1, goodMs: 1_637_971_924_000 };
    const none = { nextMs: undefined, lastMs: undefined, endMs: undefined, goodMs: undefined };
    const good = { ...push, ...times, snapshot: SUMMARY.snapshot, text: undefined, result: undefined };
    const ofEtc = { name: 'etc to local', source: 'etc', snapshot: undefined, result: undefined };
    const bad = { ...push, ...none, ...ofEtc, lastMs: 0, text: 'disk\nfull', failures: 2 };
    daemon.serve = (channel) =>
      channel.handler(client.STATUS, (message) => {
        const rest = {
          repositories: [],
          sources: [],
          processes: [],
          jobs: [],
          pushes: [good, bad],
          tasks: [],
          paused: undefined,
        };
        const status = { version: '1', pid: 1, startedMs: 0, configuration: '/etc/plakard.conf', ...rest };
        channel.reply(message, client.STATUS_IS, status);
      });
    const { code, text } = await daemon.run('status');
    assert.equal(code, 0);
    const [first, heading, home, etc] = text.split('\n');
    assert.match(first ?? '', /^plakard 1, process 1, since 1970-01-01T00:00:00Z \(\d+d\d\dh\), \/etc\//);
    assert.equal(heading, 'pushes:');
    assert.match(home ?? '', /^ {2}home to local {2}due now {2,}last good \d+d\d\dh ago$/);
    assert.match(
      etc ?? '',
      /^ {2}etc to local .* no snapshot yet {2,}failed {2,}2 times, last .* ago: disk\\nfull$/,
    );
    const pushes = events(await daemon.run('-j', 'status')).flatMap(({ pushes }) => pushes as object[]);
    assert.deepEqual(pushes[0], {
      ...push,
      snapshot: SUMMARY.snapshot,
      next: '1970-01-01T00:00:00Z',
      last: '1970-01-01T00:00:00Z',
      ended: '1970-01-01T00:00:00Z',
      good: '2021-11-27T00:12:04Z',
    });
  });

  test('check: a verdict, and 14 where there is damage', async () => {
    let problems = 0;
    let asked: unknown;
    daemon.serve = (channel) =>
      channel.handler(client.CHECK, (message) => {
        const { depth, snapshots, runs } = message.payload;
        asked = [depth, snapshots, ...(runs === undefined ? [] : [runs])];
        const paths = [Buffer.from('/a'), Buffer.from('/b')];
        if (problems > 0)
          channel.message(client.PROBLEM, {
            job: 1,
            object: '99e5:',
            text: 'cannot be restored',
            paths,
            more: undefined,
          });
        const counts = { snapshots: 12, packs: 40, chunks: 11_203, bytes: 1.2e9, orphans: 2 };
        channel.reply(message, client.CHECKED, {
          repository: 'local',
          depth,
          ...counts,
          duplicates: 0,
          quarantined: 0,
          runs,
          turn: runs && 4,
          notes: [],
          problems,
          durationMs: 3400,
        });
      });
    const good = await daemon.run('check');
    const looked = 'local: 12 snapshots, 40 packs, 11203 chunks, 1.2 GB read in 3.4 s';
    assert.deepEqual([good.code, good.text, good.stderr], [0, `${looked}: no damage, 2 orphans\n`, '']);
    assert.deepEqual(asked, ['full', []]);
    problems = 1;
    const bad = await daemon.run('check', '99E5');
    assert.deepEqual(asked, ['snapshots', ['99e5']]);
    assert.deepEqual([bad.code, bad.text], [14, `${looked}: 1 problem, 2 orphans\n`]);
    assert.equal(
      bad.stderr,
      'plakarctl: check: 99e5:/a, /b: cannot be restored\nplakarctl: check local: 1 problem found\n',
    );
    await daemon.run('check', '-fast', '99e5');
    assert.deepEqual(asked, ['fast', ['99e5']]);
    problems = 0;
    const sample = await daemon.run('check', '-sample', '7%');
    assert.deepEqual(asked, ['sample', [], 15]);
    assert.match(sample.text, /: no damage, part 5 of 15, 2 orphans\n$/);
    for (const words of [
      ['-sample', '0'],
      ['-sample', '101%'],
      ['-sample', '5', '-fast'],
      ['-sample', '5%', '99e5'],
    ])
      assert.equal((await daemon.run('check', ...words)).code, 2, words.join(' '));
  });

  test('an interrupt ends it with 130 and one line', async () => {
    const asked = Promise.withResolvers<void>();
    const over = Promise.withResolvers<void>();
    daemon.serve = (channel) => {
      channel.handler(client.CHECK, () => {
        asked.resolve();
        return over.promise;
      });
    };
    const child = daemon.spawn('check');
    const stderr: Buffer[] = [];
    child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk));
    await asked.promise;
    child.kill('SIGINT');
    const [code, signal] = await once(child, 'close');
    over.resolve();
    assert.deepEqual([code, signal], [130, null]);
    assert.equal(String(Buffer.concat(stderr)), 'plakarctl: interrupted\n');
  });

  describe('looking into snapshots', () => {
    const chunks = new TestChunks();
    const { root, large } = plantTree(chunks);
    const older = headerOf(root, {
      id: Buffer.alloc(16, 1),
      time: 1_600_000_000_000,
      source: 'etc',
      tags: ['x'],
    });
    before(() => {
      daemon.serve = (channel) => serveReader(channel, chunks, [older, headerOf(root)]);
    });

    test('ls lists snapshots as documented, all pages of them', async () => {
      const { code, text, stderr } = await daemon.run('ls');
      assert.deepEqual([code, stderr], [0, '']);
      assert.deepEqual(text.split('\n'), [
        '2020-09-13T12:26:40Z  01010101-0101-0101-0101-010101010101   11 MB /bin [x]',
        '2021-11-27T00:12:04Z  99e53a9c-4f2a-4b7c-8d9e-0f1a2b3c4d5e   11 MB /bin',
        '',
      ]);
      assert.equal((await daemon.run('ls', '-source', 'etc')).text.split('\n').length, 2);
      assert.equal((await daemon.run('ls', '-tag', 'x', '-tag', 'y')).text, '');
      const [event] = events(await daemon.run('-j', 'ls'));
      assert.deepEqual(
        [event?.event, event?.snapshot, event?.time, event?.files, event?.paths],
        ['snapshot', '01010101-0101-0101-0101-010101010101', '2020-09-13T12:26:40Z', 8, [{ path: '/bin' }]],
      );
    });

    test('ls prints a list that came as lines, unless there is more in it than lines', async () => {
      const lines = 'one line\nand another\n';
      const { serve } = daemon;
      try {
        for (const [text, isPrinted] of [
          [lines, true],
          [`${lines}\x1b[2J\n`, false],
          [`${lines}\x7f`, false],
          [`${lines}\u202e`, false],
          ['one\rtwo\n', false],
        ] as const) {
          daemon.serve = (channel) => serveReader(channel, chunks, [older], Buffer.from(text));
          const printed = (await daemon.run('ls')).text;
          if (isPrinted) assert.equal(printed, text);
          else assert.match(printed, /^2020-09-13T12:26:40Z .*\n$/);
        }
      } finally {
        daemon.serve = serve;
      }
    });

    test('ls lists what is inside', async () => {
      const { text } = await daemon.run('ls', '99e5');
      const lines = text.split('\n');
      assert.equal(lines[0], '-rw-r--r-- 1000:100      6 B  2021-11-27T00:12:04Z  a.txt');
      assert.ok(lines.some((line) => line.endsWith('  link -> a.txt')));
      assert.ok(lines.some((line) => line.endsWith('  we\\xffird\\x0aname')));
      assert.ok(lines.some((line) => line.endsWith('  lost (not read)')));
      assert.ok(lines.some((line) => line.startsWith('crw-rw-rw-') && line.includes(' 1, 3 ')));
      const deep = await daemon.run('ls', '-R', 'latest:/sub');
      assert.deepEqual(
        deep.text.split('\n').map((line) => line.split('  ').at(-1)),
        ['/sub/b.txt', '/sub/deep', '/sub/deep/x', ''],
      );
      const odd = events(await daemon.run('-j', 'ls', '99e5')).find((event) => 'pathBase64' in event);
      assert.deepEqual(
        Buffer.from(String(odd?.pathBase64), 'base64'),
        Buffer.concat([Buffer.from('/'), ODD_NAME]),
      );
    });

    test('what is not there', async () => {
      const { code, stderr } = await daemon.run('ls', '99e53a9c:/x');
      assert.deepEqual([code, stderr], [1, 'plakarctl: ls 99e53a9c:/x: no such file in the snapshot\n']);
    });

    test('cat writes contents, and goes on after what has none', async () => {
      const { code, stdout, stderr } = await daemon.run(
        'cat',
        'latest:/a.txt',
        'latest:/sub',
        'latest:/large',
      );
      assert.equal(code, 1);
      assert.ok(stdout.equals(Buffer.concat([Buffer.from('hello\n'), large])));
      assert.equal(stderr, 'plakarctl: cat latest:/sub: read contents: it is a directory\n');
    });

    test('a path on the command line may be of any bytes', async () => {
      const { code, text } = await daemon.outcome(daemon.spawnBytes('cat', 'latest:/we\\377ird\\nname'));
      assert.deepEqual([code, text], [0, 'odd\n']);
    });

    test('damage is named, and is 14', async () => {
      const broken = new TestChunks();
      const planted = plantTree(broken);
      const hello = [...broken.chunks].find(([, { data }]) => String(data) === 'hello\n');
      broken.chunks.delete(hello?.[0] ?? '');
      const serve = daemon.serve;
      daemon.serve = (channel) => serveReader(channel, broken, [headerOf(planted.root)]);
      const { code, stderr } = await daemon.run('cat', 'latest:/a.txt');
      daemon.serve = serve;
      assert.equal(code, 14);
      assert.match(stderr, /^plakarctl: cat latest:\/a\.txt: read chunk [0-9a-f]{16}: it is missing\n$/);
    });

    test('checksum, find and diff', async () => {
      const { text } = await daemon.run('checksum', 'latest:/a.txt');
      assert.equal(text, '5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03  /a.txt\n');
      assert.equal(
        (await daemon.run('find', '*.txt', 'latest')).text,
        ['/a.txt', '/sub/b.txt', ''].join('\n').replace(/^\//gm, '01010101-0101-0101-0101-010101010101:/'),
      );
      assert.equal((await daemon.run('diff', '99e5', '0101')).text, '');
      assert.equal(
        (await daemon.run('diff', '99e5:/sub/deep', '99e5:/sub')).text,
        '+ /b.txt\n+ /deep\n- /x\n+ /deep/x\n',
      );
    });

    test('tarball to a file leaves nothing behind where it fails', async () => {
      const file = path.join(daemon.directory, 'x.tar');
      const partial = await daemon.run('tarball', '-o', file, 'latest');
      assert.equal(partial.code, 3, 'one file was not read when the snapshot was taken');
      assert.equal(fs.statSync(file).mode & 0o777, 0o600);
      const missing = path.join(daemon.directory, 'y.tar');
      assert.equal((await daemon.run('tarball', '-o', missing, 'latest:/nothing')).code, 1);
      assert.ok(!fs.readdirSync(daemon.directory).some((name) => name.startsWith('y.tar')));
    });

    test('a reader of the output that leaves is no news', async () => {
      const child = daemon.spawn('cat', ...Array<string>(20).fill('latest:/large'));
      const stderr: Buffer[] = [];
      child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk));
      child.stdout?.once('data', () => child.stdout?.destroy());
      const [code] = await once(child, 'exit');
      assert.equal(code, 1);
      assert.equal(String(Buffer.concat(stderr)), '');
    });
  });
});

test('the manual has every command and every option', () => {
  const page = fs.readFileSync(new URL('../../man/plakarctl.8', import.meta.url), 'utf8');
  const items = page.split('\n.It ');
  for (const { name, options } of COMMANDS) {
    // a command with commands of its own has an item for each
    const isOf = new RegExp(`^(?:Xo\n\\.)?Ic ${name}(?:\\s|$)`);
    const text = items.filter((item) => isOf.test(item)).join('\n');
    assert.ok(text !== '', `${name} is missing`);
    for (const option of options)
      assert.ok(text.includes(`Fl ${option.name}`), `${name} -${option.name} is missing`);
  }
});
