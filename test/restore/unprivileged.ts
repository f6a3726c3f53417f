/** A restore by uid 12345: the chunks and the target come on standard input, the result goes to standard output. */
import { text } from 'node:stream/consumers';
import { describe } from '../../src/error.ts';
import { MemoryChunks } from '../../src/snapshot/chunks.ts';
import { pullTree } from './plant.ts';

const UID = 12345;

const { root, copy, chunks } = JSON.parse(await text(process.stdin));
process.setgroups?.([]);
process.setgid?.(UID);
process.setuid?.(UID);
const source = new MemoryChunks();
for (const [id, kind, data] of chunks) source.chunks.set(id, { kind, data: Buffer.from(data, 'base64') });
const ref = { id: Buffer.from(root.id, 'hex'), length: root.length };
const { counts, problems } = await pullTree(source, ref, copy);
console.log(JSON.stringify({ counts, problems: problems.map(({ failure }) => describe(failure)) }));
