import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { applyPolicy, type KeepCandidate, type KeepPolicy } from '../../src/repository/keep.ts';
import { seeded } from './rig.ts';

const NOW = Date.UTC(2030, 0, 1);

function at(time: string, more: Partial<KeepCandidate> = {}): KeepCandidate {
  const [name, timeMs] = [more.name ?? time, Date.parse(time)];
  return { host: 'h', source: 's', paths: [], tags: [], ...more, name, time: timeMs };
}

/** What is kept, `NAME REASON,REASON`, in the order given. */
function kept(snapshots: readonly KeepCandidate[], policy: KeepPolicy, nowMs = NOW): string[] {
  return applyPolicy(snapshots, policy, nowMs)
    .filter(({ reasons }) => reasons.length > 0)
    .map(({ snapshot, reasons }) => `${snapshot.name} ${reasons.join(',')}`);
}

describe('keep: rules', () => {
  test('last keeps the newest, however close', () => {
    const all = ['2020-01-01T00:00:00Z', '2020-01-01T00:00:01Z', '2020-01-01T00:00:02Z'].map((time) =>
      at(time),
    );
    assert.deepEqual(kept(all, { last: 2 }), ['2020-01-01T00:00:01Z last', '2020-01-01T00:00:02Z last']);
  });

  test('a period keeps its newest, days without one do not count, and the oldest fills up', () => {
    const all = ['2020-01-01T01:00Z', '2020-01-01T09:00Z', '2020-01-05T01:00Z', '2020-01-05T23:59Z'].map(
      (time) => at(time),
    );
    assert.deepEqual(kept(all, { daily: 2 }), ['2020-01-01T09:00Z daily', '2020-01-05T23:59Z daily']);
    assert.deepEqual(kept(all, { daily: 3 }), [
      '2020-01-01T01:00Z oldest daily',
      '2020-01-01T09:00Z daily',
      '2020-01-05T23:59Z daily',
    ]);
  });

  test('weeks are ISO weeks, across the turn of the year', () => {
    // 2020-12-28 (Monday) to 2021-01-03 (Sunday) is one week
    const all = ['2020-12-27T12:00Z', '2020-12-28T12:00Z', '2021-01-03T12:00Z', '2021-01-04T12:00Z'].map(
      (time) => at(time),
    );
    assert.deepEqual(kept(all, { weekly: 3 }), [
      '2020-12-27T12:00Z weekly',
      '2021-01-03T12:00Z weekly',
      '2021-01-04T12:00Z weekly',
    ]);
  });

  test('hours, months, quarters and years are those of the calendar', () => {
    const all = ['2019-12-31T23:59Z', '2020-01-01T00:00Z', '2020-03-31T23:00Z', '2020-04-01T00:59Z'].map(
      (time) => at(time),
    );
    const [a, b, c, d] = all.map(({ name }) => name);
    assert.deepEqual(kept(all, { yearly: 2 }), [`${a} yearly`, `${d} yearly`]);
    assert.deepEqual(kept(all, { quarterly: 3 }), [`${a} quarterly`, `${c} quarterly`, `${d} quarterly`]);
    assert.deepEqual(kept(all, { monthly: 3 }), [`${b} monthly`, `${c} monthly`, `${d} monthly`]);
    assert.deepEqual(kept(all, { hourly: 1 }), [`${d} hourly`]);
  });

  test('times before 1970 fall into their own periods', () => {
    const all = ['1969-12-31T23:00Z', '1970-01-01T01:00Z'].map((time) => at(time));
    assert.equal(kept(all, { daily: 2 }).length, 2);
    assert.equal(kept(all, { weekly: 1 }).length, 1);
  });

  test('within counts from the newest, not from now', () => {
    const all = ['2020-01-01T00:00Z', '2020-01-09T00:00Z', '2020-01-10T00:00Z'].map((time) => at(time));
    assert.deepEqual(kept(all, { withinSeconds: 86_400 }), [
      '2020-01-09T00:00Z within',
      '2020-01-10T00:00Z within',
    ]);
  });

  test('tags keep, whatever else', () => {
    const all = [at('2020-01-01T00:00Z', { tags: ['release'] }), at('2020-01-02T00:00Z')];
    assert.deepEqual(kept(all, { last: 1, tags: ['release'] }), [
      '2020-01-01T00:00Z tag release',
      '2020-01-02T00:00Z last',
    ]);
  });

  test('where no rule keeps any of a group, its newest stays', () => {
    const all = [
      at('2020-01-01T00:00Z'),
      at('2020-01-02T00:00Z'),
      at('2020-01-03T00:00Z', { host: 'other' }),
    ];
    const newest = 'newest, as no rule keeps any';
    assert.deepEqual(kept(all, { tags: ['misspelled'] }), [
      `2020-01-02T00:00Z ${newest}`,
      `2020-01-03T00:00Z ${newest}`,
    ]);
    assert.deepEqual(kept([...all, at('2020-01-01T06:00Z', { tags: ['t'] })], { tags: ['t'] }), [
      `2020-01-03T00:00Z ${newest}`,
      '2020-01-01T06:00Z tag t',
    ]);
  });

  test('sources and hosts are judged apart, pushes without a source by their paths', () => {
    const of = (name: string, more: Partial<KeepCandidate>) => at('2020-01-01T00:00Z', { name, ...more });
    const all = [
      of('one', {}),
      of('host', { host: 'other' }),
      of('source', { source: 'other' }),
      of('path a', { source: '', paths: [Buffer.from('/a')] }),
      of('path b', { source: '', paths: [Buffer.from('/b')] }),
    ];
    assert.equal(kept(all, { last: 1 }).length, all.length);
  });

  test('the future is kept and pushes out nothing', () => {
    const all = ['2020-01-01T00:00Z', '2020-01-02T00:00Z', '2099-01-01T00:00Z'].map((time) => at(time));
    assert.deepEqual(kept(all, { last: 1 }), ['2020-01-02T00:00Z last', '2099-01-01T00:00Z in the future']);
    assert.deepEqual(kept(all, { withinSeconds: 60 }), [
      '2020-01-02T00:00Z within',
      '2099-01-01T00:00Z in the future',
    ]);
  });
});

describe('keep: properties', () => {
  function draw(seed: number): { snapshots: KeepCandidate[]; policy: KeepPolicy } {
    const random = seeded(`keep ${seed}`);
    const below = (limit: number) => random(4).readUInt32LE(0) % limit;
    // dense and sparse, years and seconds
    const spanMs = [60_000, 86_400_000, 3e9, 3e11][below(4)] ?? 1;
    const snapshots = Array.from({ length: below(60) }, (_, i) => ({
      name: `${seed} ${i}`,
      time: NOW - below(1000) * (spanMs / 1000) + (below(20) === 0 ? 1e12 : 0),
      host: `h${below(2)}`,
      source: `s${below(2)}`,
      paths: [],
      tags: below(5) === 0 ? ['t'] : [],
    }));
    const names = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'quarterly', 'yearly'] as const;
    const policy: Record<string, unknown> = {};
    for (const name of names) if (below(3) === 0) policy[name] = 1 + below(6);
    if (below(4) === 0) policy.withinSeconds = below(1e6);
    if (below(4) === 0) policy.tags = ['t'];
    return { snapshots, policy };
  }
  const names = (snapshots: readonly KeepCandidate[], policy: KeepPolicy) =>
    new Set(
      applyPolicy(snapshots, policy, NOW)
        .filter(({ reasons }) => reasons.length > 0)
        .map(({ snapshot }) => snapshot.name),
    );
  /** Those that a rule keeps, and not for want of one. */
  const ruled = (snapshots: readonly KeepCandidate[], policy: KeepPolicy) =>
    applyPolicy(snapshots, policy, NOW)
      .filter(({ reasons }) => reasons.some((reason) => !reason.startsWith('newest')))
      .map(({ snapshot }) => snapshot.name);

  test('nothing goes that any rule of it alone keeps; more rules never keep less', () => {
    for (let seed = 0; seed < 400; seed++) {
      const { snapshots, policy } = draw(seed);
      const all = ruled(snapshots, policy);
      const union = new Set<string>();
      for (const [rule, value] of Object.entries(policy))
        for (const name of ruled(snapshots, { [rule]: value })) union.add(name);
      for (const { name, time } of snapshots) if (time > NOW) union.add(name);
      assert.deepEqual(all.sort(), [...union].sort(), `seed ${seed}`);
    }
  });

  test('idempotent: what is kept is kept again', () => {
    for (let seed = 0; seed < 400; seed++) {
      const { snapshots, policy } = draw(seed);
      const once = names(snapshots, policy);
      const left = snapshots.filter(({ name }) => once.has(name));
      assert.deepEqual(names(left, policy), once, `seed ${seed}`);
    }
  });

  test('the order in which snapshots are given does not matter', () => {
    for (let seed = 0; seed < 400; seed++) {
      const { snapshots, policy } = draw(seed);
      const other = [...snapshots].sort((a, b) => (a.name.split('').reverse().join() < b.name ? -1 : 1));
      assert.deepEqual(
        [...names(other, policy)].sort(),
        [...names(snapshots, policy)].sort(),
        `seed ${seed}`,
      );
    }
  });

  test('of each group one that is not of the future stays; by any rule of time, its newest', () => {
    for (let seed = 0; seed < 400; seed++) {
      const { snapshots, policy } = draw(seed);
      const counts = Object.keys(policy).some((rule) => rule !== 'tags');
      const past = snapshots.filter(({ time }) => time <= NOW);
      const stays = names(snapshots, policy);
      const groups = (some: readonly KeepCandidate[]) =>
        [...new Set(some.map(({ host, source }) => `${host} ${source}`))].sort();
      assert.deepEqual(groups(past.filter(({ name }) => stays.has(name))), groups(past), `seed ${seed}`);
      if (!counts || past.length === 0) continue;
      const keptNames = names(snapshots, policy);
      const newest = past.reduce((a, b) => (b.time > a.time ? b : a));
      const same = past.filter(
        ({ time, host, source }) => time === newest.time && host === newest.host && source === newest.source,
      );
      assert.ok(
        same.some(({ name }) => keptNames.has(name)),
        `seed ${seed}`,
      );
    }
  });
});
