/** Random trees, changed at random: a walk beside the parent must give what a walk from scratch gives. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { Tree } from './mutate.ts';
import { temporary } from './odd.ts';
import { Random } from './random.ts';
import { take } from './take.ts';

for (let seed = 1; seed <= 6; seed++)
  test(`a chain of snapshots is as good as each from scratch, seed ${seed}`, async () => {
    const top = temporary();
    try {
      const random = new Random(seed);
      const tree = new Tree(top, random);
      tree.mutate(150);
      let parent = await take(top);
      let root = parent.root;
      for (let round = 0; round < 10; round++) {
        tree.mutate(random.below(12));
        const pieceBytes = random.pick([13, 1000, 64 << 10]);
        const next = await take(top, { chunks: parent.chunks, old: root, pieceBytes });
        root = next.root ?? root;
        const scratch = await take(top);
        assert.deepEqual(root, scratch.root, `round ${round}\n${next.log.join('\n')}`);
        const { files, directories, others, bytes } = next.counts;
        const { counts } = scratch;
        assert.deepEqual(
          [files, directories, others, bytes],
          [counts.files, counts.directories, counts.others, counts.bytes],
        );
        assert.equal(next.counts.new + next.counts.changed + next.counts.unchanged, counts.new);
        const unchanged = await take(top, { chunks: parent.chunks, old: root, pieceBytes });
        assert.deepEqual(unchanged.log, ['END 1']);
        parent = next;
      }
    } finally {
      fs.rmSync(top, { recursive: true });
    }
  });
