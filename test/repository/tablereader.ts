/** The reading half of a test: looks ids up while another thread inserts them. */
import { parentPort, workerData } from 'node:worker_threads';
import { IdTable } from '../../src/repository/table.ts';
import { idFor } from './tableids.ts';

const { shared, seed } = workerData as { shared: SharedArrayBuffer; seed: number };
const table = new IdTable(Buffer.from(shared));
const id = Buffer.alloc(32);
let wrong = 0;
let seen = 0;
parentPort?.postMessage('reading');
while (seen < 60_000) {
  idFor(seed, seen, id);
  const found = table.lookup(id, 0);
  if (found === seen) seen++;
  else if (found !== -1) {
    wrong++;
    seen++;
  }
}
parentPort?.postMessage({ wrong, seen });
