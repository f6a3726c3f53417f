/**
 * rc.d/plakard under sh, with a stand-in for rc.subr(8) that does what its
 * manual says, but to one process alone: start, check, configtest, reload, stop.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Daemon } from '../parent/daemon.ts';

const ROOT = path.join(import.meta.dirname, '../..');

/** `pexp` has to match the title of the process whose id the daemon wrote; it alone gets signals. */
const RC_SUBR = `
rc_exec() { eval "$1"; }
rc_pid() { pgrep -xf "$pexp" | grep -x "$(cat "$PIDFILE" 2>/dev/null)"; }
rc_check() { rc_pid >/dev/null; }
rc_start() { rc_exec "$daemon $daemon_flags"; }
rc_reload() { kill -HUP "$(rc_pid)"; }
rc_stop() { kill -TERM "$(rc_pid)"; }
rc_cmd() {
	daemon_flags=$FLAGS
	case $1 in
	start) rc_check || { rc_pre && rc_start; } ;;
	stop) ! rc_check || { rc_stop; while rc_check; do sleep 0.1; done; } ;;
	check) rc_check ;;
	reload) rc_check && rc_reload ;;
	configtest) rc_configtest ;;
	*) exit 1 ;;
	esac
}
`;

test('rc.d/plakard starts, checks, tests, reloads and stops the daemon', async (t) => {
  const daemon = new Daemon();
  t.after(() => daemon.clear());
  fs.writeFileSync(daemon.path('rc.subr'), RC_SUBR);
  const script = fs
    .readFileSync(path.join(ROOT, 'rc.d/plakard'), 'utf8')
    .replace('/etc/rc.d/rc.subr', daemon.path('rc.subr'))
    .replace('/usr/local/sbin/plakard', path.join(ROOT, 'bin/plakard'));
  assert.match(script, new RegExp(`daemon="${ROOT}`));
  fs.writeFileSync(daemon.path('rc'), script);
  const rc = (word: string) =>
    spawnSync('sh', [daemon.path('rc'), word], {
      encoding: 'utf8',
      env: {
        ...process.env,
        PIDFILE: daemon.path('state/plakard.pid'),
        FLAGS: `-f ${daemon.path('plakard.conf')}`,
      },
    });
  assert.equal(rc('check').status, 1);
  assert.equal(rc('configtest').status, 0);
  daemon.configure('nonsense');
  const refused = rc('start');
  assert.notEqual(refused.status, 0);
  assert.match(refused.stderr, /plakard\.conf:\d+:1: .*nonsense/);
  assert.notEqual(rc('configtest').status, 0);
  daemon.configure();
  assert.equal(rc('start').status, 0);
  t.after(() => rc('stop'));
  assert.equal(rc('check').status, 0);
  // clients can connect at once
  const { sources } = (await daemon.status()) as { sources?: unknown[] };
  assert.equal(sources?.length, 1);
  daemon.configure(`source "more" {\n path "${daemon.path('source')}"\n}`);
  assert.equal(rc('reload').status, 0);
  while (((await daemon.status()).sources as unknown[]).length !== 2);
  assert.equal(rc('stop').status, 0);
  assert.equal(rc('check').status, 1);
  assert.equal(fs.existsSync(daemon.path('socket')), false);
});
