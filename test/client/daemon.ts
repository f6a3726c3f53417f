/**
 * A control process for the tests of plakarctl: it listens on a socket in this
 * process, and answers as the test says. What a real daemon does is tested with
 * the processes.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Channel, channelPair } from '../../src/ipc/channel.ts';
import { greet } from '../../src/ipc/connect.ts';
import { OPEN, OPENED } from '../../src/messages/client.ts';
import * as session from '../../src/messages/reader.ts';
import { encodeRow } from '../../src/messages/rows.ts';
import { encodeSnapshot, type SnapshotHeader, snapshotName } from '../../src/repository/snapshot.ts';
import type { ChunkKind } from '../../src/snapshot/chunks.ts';
import { mapShared, memfdCreate } from '../../src/sys/memory.ts';
import { closeAll } from '../../src/sys/socket.ts';
import { RUNTIME_FLAGS } from '../installed.ts';
import type { TestChunks } from './tree.ts';

const PROGRAM = fileURLToPath(new URL('../../src/plakarctl.ts', import.meta.url));
const RING_BYTES = 8 << 20;

export interface Outcome {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly text: string;
  readonly stderr: string;
}

/** The objects that a run with -j printed. */
export function events({ text }: Outcome): Record<string, unknown>[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

export class Daemon {
  readonly directory = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
  readonly socket = path.join(this.directory, 'socket');
  /** Registers a new client's handlers. */
  serve: (channel: Channel) => void = () => {};
  readonly #server: net.Server;

  constructor() {
    this.#server = net.createServer((connection) => {
      const { fd } = (connection as unknown as { _handle: { fd: number } })._handle;
      const channel = new Channel(greet(fd), { name: 'client' });
      connection.destroy();
      this.serve(channel);
      channel.dispatch().catch(() => undefined);
    });
  }

  async start(): Promise<void> {
    this.#server.listen(this.socket);
    await once(this.#server, 'listening');
  }

  stop(): void {
    this.#server.close();
    fs.rmSync(this.directory, { recursive: true, force: true });
  }

  /** plakarctl with these arguments, its output ours to read. */
  spawn(...args: string[]): ChildProcess {
    return this.#spawn(process.execPath, [...RUNTIME_FLAGS, PROGRAM, '-s', this.socket, ...args]);
  }

  /** The same, with one argument that printf(1) makes, as it may be of any bytes. */
  spawnBytes(command: string, format: string): ChildProcess {
    const script = `exec "$0" "$1" -s "$2" "$3" "$(printf "$4")"`;
    return this.#spawn('/bin/sh', ['-c', script, process.execPath, PROGRAM, this.socket, command, format]);
  }

  #spawn(file: string, args: string[]): ChildProcess {
    return spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  }

  /** Runs plakarctl to its end. */
  run(...args: string[]): Promise<Outcome> {
    return this.outcome(this.spawn(...args));
  }

  async outcome(child: ChildProcess): Promise<Outcome> {
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk));
    const [code] = (await once(child, 'close')) as [number | null];
    const bytes = Buffer.concat(stdout);
    return { code, stdout: bytes, text: bytes.toString(), stderr: Buffer.concat(stderr).toString() };
  }
}

/** Serves reader sessions on these snapshots, all in one tree of chunks. */
export function serveReader(
  channel: Channel,
  chunks: TestChunks,
  headers: readonly SnapshotHeader[],
  lines?: Buffer,
): void {
  channel.handler(OPEN, (message) => {
    const [ours, theirs] = channelPair();
    const ring = memfdCreate('test', RING_BYTES);
    const memory = mapShared(ring, RING_BYTES, 'write');
    serveSession(new Channel(ours, { name: 'reader' }), memory, chunks, headers, lines);
    const fds = [theirs.stream, theirs.descriptors, ring];
    channel.reply(message, OPENED, { repository: 'local', ringBytes: RING_BYTES }, fds);
    closeAll(fds);
  });
}

function serveSession(
  channel: Channel,
  memory: Buffer,
  chunks: TestChunks,
  headers: readonly SnapshotHeader[],
  lines: Buffer | undefined,
): void {
  const encoded = (header: SnapshotHeader) => encodeSnapshot(header);
  channel.handler(session.LIST, (message) => {
    // a page each, so that paging is seen
    const page = headers.slice(message.payload.from, message.payload.from + 1).map(encoded);
    channel.reply(message, session.HEADERS, { headers: page, total: headers.length, damaged: [] });
  });
  channel.handler(session.ROWS, (message) => {
    const page = headers.slice(message.payload.from, message.payload.from + 1).map(encodeRow);
    const rows = Buffer.concat(page);
    channel.reply(message, session.ROWS_ARE, {
      rows,
      count: page.length,
      total: headers.length,
      damaged: [],
    });
  });
  channel.handler(session.LINES, (message) =>
    channel.reply(message, session.LINES_ARE, { text: lines, damaged: [] }),
  );
  channel.handler(session.RESOLVE, (message) => {
    const { snapshot } = message.payload;
    const header = headers.find(({ id }) => snapshot === 'latest' || snapshotName(id).startsWith(snapshot));
    if (header === undefined) throw new Error('no such snapshot');
    channel.reply(message, session.HEADER, { header: encoded(header), near: undefined });
  });
  // nothing comes ahead: the client asks for each node by itself
  channel.handler(session.TREE, ({ payload: { stream } }) =>
    channel.message(session.TREE_NODES, { stream, data: Buffer.alloc(0), last: true }),
  );
  channel.handler(session.TREE_USED, () => {});
  channel.handler(session.TREE_STOP, () => {});
  // chunks lie in the order in which they are asked for
  channel.handler(session.LOCATE, (message) => {
    const places = new Float64Array(message.payload.ids.length / 32).map((_, place) => place);
    channel.reply(message, session.PLACES, { places: Buffer.from(places.buffer) });
  });
  channel.handler(session.READ, async (message) => {
    const entries = message.payload.chunks;
    const failed: { index: number; kind: string; text: string }[] = [];
    for (let at = 0; at < entries.length; at += session.READ_ENTRY_BYTES) {
      const id = entries.subarray(at + 12, at + session.READ_ENTRY_BYTES);
      const length = entries.readUInt32LE(at + 4);
      try {
        const data = await chunks.get(entries[at] as ChunkKind, id, length);
        data.copy(memory, entries.readUInt32LE(at + 8));
      } catch {
        failed.push({ index: at / session.READ_ENTRY_BYTES, kind: 'damaged', text: 'it is missing' });
      }
    }
    channel.reply(message, session.READ_DONE, { failed });
  });
  channel.dispatch().catch(() => undefined);
}
