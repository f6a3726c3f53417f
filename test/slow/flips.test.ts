/**
 * Every byte of the fixtures flipped, and every object cut short at every
 * length: it is named, whatever else is there is read as it was, and no byte is
 * wrong. In one process, by what the daemon reads with. FLIPS_EVERY takes every
 * n-th place alone.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { before, describe as suite, test } from 'node:test';
import { MemoryBackend } from '../../src/backends/memory.ts';
import { OBJECT_KINDS, type ObjectKind } from '../../src/backends/objects.ts';
import { describe, Failure } from '../../src/error.ts';
import type { PurposeKeys } from '../../src/keys/derive.ts';
import { headerEpoch } from '../../src/keys/frame.ts';
import { ChunkHasher } from '../../src/keys/ids.ts';
import { findKeyring, isKeyring, type Keyring, openKeyring, purposeKeysOf } from '../../src/keys/keyring.ts';
import { Sealer } from '../../src/keys/seal.ts';
import { type Credential, openSlot, type RootKey } from '../../src/keys/slot.ts';
import { verifyPack } from '../../src/repository/check.ts';
import { decodeConfig } from '../../src/repository/config.ts';
import { SEGMENT_RAW_MAX_BYTES, SEGMENT_SEALED_MAX_BYTES } from '../../src/repository/constants.ts';
import { isVoid } from '../../src/repository/lease.ts';
import { decodeLogEntry, unframeLogEntry } from '../../src/repository/log.ts';
import { readFooter } from '../../src/repository/pack.ts';
import { checkPlain } from '../../src/repository/plain.ts';
import {
  associatedData,
  openPadded,
  SEALED_FOOTER,
  SEALED_INDEX,
  SEALED_LOG,
  SEALED_SEGMENT,
  SEALED_SNAPSHOT,
  type SealedKind,
  sealPadded,
} from '../../src/repository/sealed.ts';
import { SegmentCodec, SegmentReader } from '../../src/repository/segment.ts';
import { decodeSnapshot, unframeSnapshot } from '../../src/repository/snapshot.ts';
import { Store } from '../../src/repository/store.ts';
import { KEY_FILE, PASSPHRASE } from '../fixtures/make.ts';

const EVERY = Number(process.env.FLIPS_EVERY ?? 1);
const FIXTURES = path.join(import.meta.dirname, '../fixtures');
const sealedBuffer = Buffer.alloc(SEGMENT_SEALED_MAX_BYTES);
const rawBuffer = Buffer.alloc(SEGMENT_RAW_MAX_BYTES);

/** The slots of the fixtures, by the digit that their names repeat. */
const CREDENTIALS: Readonly<Record<string, Credential>> = {
  0: { type: 'passphrase', secret: PASSPHRASE },
  1: { type: 'key file', secret: KEY_FILE },
  2: { type: 'none' },
  3: { type: 'key file', secret: KEY_FILE },
};

/** By the repository: each has buffers of its own. */
const codecs = new Map<string, SegmentCodec>();

const hashOf = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

interface Keys {
  readonly config: Buffer;
  readonly repository: Buffer;
  readonly keyring: Keyring;
}

/** What could be read, as hashes by what it is, and what was told of the rest. */
class Reading {
  readonly facts = new Map<string, string>();
  readonly told: string[] = [];

  /** Only a Failure may come of damage; it is told. */
  attempt<T>(object: string, read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      assert.ok(error instanceof Failure, `${object}: ${error instanceof Error ? error.stack : error}`);
      this.told.push(`${object}: ${describe(error)}`);
      return undefined;
    }
  }

  async attemptAsync<T>(object: string, read: () => Promise<T>): Promise<T | undefined> {
    try {
      return await read();
    } catch (error) {
      this.attempt(object, () => {
        throw error;
      });
      return undefined;
    }
  }
}

function readFixture(root: string): MemoryBackend {
  const backend = new MemoryBackend();
  for (const kind of OBJECT_KINDS) {
    const at = path.join(root, kind);
    if (!fs.existsSync(at)) continue;
    const files = fs.statSync(at).isFile() ? [''] : fs.readdirSync(at, { recursive: true, encoding: 'utf8' });
    for (const file of files)
      if (fs.statSync(path.join(at, file)).isFile())
        backend.objects[kind].set(path.basename(path.join(at, file)), fs.readFileSync(path.join(at, file)));
  }
  return backend;
}

function unlock({ objects }: MemoryBackend, reading: Reading): Keys | undefined {
  const config = objects.config.get('config') ?? Buffer.alloc(0);
  const opened = reading.attempt('config', () => decodeConfig(config));
  if (opened === undefined) return undefined;
  const { repository } = opened;
  const all = [...objects.keys].map(([name, data]) => ({ name, data }));
  let root: RootKey | undefined;
  for (const { name, data } of all) {
    const credential = CREDENTIALS[name[0] ?? ''];
    if (credential === undefined || !/^(.)\1{15}$/.test(name)) continue;
    const found = reading.attempt(`keys/${name}`, () => openSlot(data, name, repository, credential));
    if (found !== undefined) reading.facts.set(`keys/${name}`, hashOf(found.key));
    root ??= found;
  }
  if (root === undefined) return undefined;
  const unlocked = root;
  for (const { name, data } of all)
    if (isKeyring(data))
      reading.attempt(`keys/${name}`, () =>
        openKeyring({ name, data }, unlocked, { repositoryId: repository, config }),
      );
  const keyring = reading.attempt('keys', () =>
    findKeyring(all, unlocked, { repositoryId: repository, config }, 0),
  );
  return keyring && { config, repository, keyring };
}

/** Reads a whole repository with these keys. */
class Repository {
  readonly #keys: Keys;
  readonly #backend: MemoryBackend;
  readonly #reading: Reading;
  readonly #purposes = new Map<number, PurposeKeys>();
  readonly #hasher: ChunkHasher;

  constructor(keys: Keys, backend: MemoryBackend, reading: Reading) {
    this.#keys = keys;
    this.#backend = backend;
    this.#reading = reading;
    this.#hasher = new ChunkHasher(keys.keyring.chunkId);
  }

  #sealer(epoch: number, purpose: 'index' | 'log' | 'segment' | 'snapshot'): Sealer {
    const { keyring, config } = this.#keys;
    const found = keyring.epochs.find((each) => each.epoch === epoch);
    if (found === undefined) throw new Failure('open', `epoch ${epoch}`, { kind: 'damaged' });
    const purposes = this.#purposes.get(epoch) ?? purposeKeysOf(keyring, found, config);
    this.#purposes.set(epoch, purposes);
    return new Sealer(purposes[purpose], randomBytes);
  }

  #aad(kind: SealedKind, name?: string): Buffer {
    return associatedData(this.#keys.repository, kind, name);
  }

  readonly codec = {
    openIndex: async (kind: 'footer' | 'index', name: string, sealed: Buffer, epoch: number) =>
      openPadded(
        this.#sealer(epoch, 'index'),
        sealed,
        this.#aad(kind === 'footer' ? SEALED_FOOTER : SEALED_INDEX, name),
      ),
    sealIndex: async (kind: 'footer' | 'index', name: string, plaintext: Buffer, epoch: number) =>
      sealPadded(
        this.#sealer(epoch, 'index'),
        plaintext,
        this.#aad(kind === 'footer' ? SEALED_FOOTER : SEALED_INDEX, name),
      ),
  };

  #unpack(sealed: Buffer, epoch: number, out: Buffer) {
    const sealer = this.#sealer(epoch, 'segment');
    const repository = this.#keys.repository.toString('hex');
    const codec = codecs.get(repository) ?? new SegmentCodec(sealer, this.#aad(SEALED_SEGMENT));
    codecs.set(repository, codec);
    codec.sealer = sealer;
    return codec.unpack(sealed, out);
  }

  async read(chunks: readonly Buffer[], harmed: { kind: ObjectKind; name: string }): Promise<void> {
    const { told } = this.#reading;
    for (const { object, text } of await checkPlain(this.#backend, {
      config: this.#keys.config,
      keys: new Map(),
    }))
      told.push(`${object}: ${text}`);
    this.#readHeaders();
    this.#readLog();
    const store = await this.#reading.attemptAsync('store', () => this.#open());
    if (store === undefined) return;
    for (const { object, text } of store.problems) told.push(`${object}: ${text}`);
    if (harmed.kind === 'packs') await this.#verify(harmed.name);
    await this.#reading.attemptAsync('store', () => store.recover());
    for (const id of chunks) await this.#reading.attemptAsync('chunk', () => this.#readChunk(store, id));
  }

  #open(): Promise<Store> {
    return Store.open({
      backend: this.#backend,
      codec: this.codec,
      random: randomBytes,
      allocate: (bytes) => Buffer.alloc(bytes),
    });
  }

  async #verify(name: string): Promise<void> {
    const { problems } = await verifyPack(name, {
      backend: this.#backend,
      hasher: this.#hasher,
      openIndex: this.codec.openIndex,
      openSegment: async (sealed, epoch, out) => this.#unpack(sealed, epoch, out),
    });
    for (const { object, text } of problems) this.#reading.told.push(`${object}: ${text}`);
  }

  #readHeaders(): void {
    for (const [name, object] of this.#backend.objects.snapshots)
      this.#reading.attempt(`snapshots/${name}`, () => {
        if (isVoid(object, name)) return this.#reading.facts.set(name, 'void');
        const sealed = unframeSnapshot(object, name);
        const sealer = this.#sealer(headerEpoch(object), 'snapshot');
        const plaintext = openPadded(sealer, sealed, this.#aad(SEALED_SNAPSHOT, name));
        decodeSnapshot(plaintext, name);
        return this.#reading.facts.set(name, hashOf(plaintext));
      });
  }

  #readLog(): void {
    for (const [name, object] of this.#backend.objects.log)
      this.#reading.attempt(`log/${name}`, () => {
        const sealed = unframeLogEntry(object, name);
        const plaintext = openPadded(
          this.#sealer(headerEpoch(object), 'log'),
          sealed,
          this.#aad(SEALED_LOG, name),
        );
        decodeLogEntry(plaintext, name);
        this.#reading.facts.set(name, hashOf(plaintext));
      });
  }

  async #readChunk(store: Store, id: Buffer): Promise<void> {
    const hex = id.toString('hex');
    const ordinal = store.table.lookup(id, 0);
    if (ordinal < 0) throw new Failure('find', hex, { kind: 'damaged' });
    const { length, epoch } = await store.readSealed(ordinal, sealedBuffer);
    const { rawLength } = this.#unpack(sealedBuffer.subarray(0, length), epoch, rawBuffer);
    const reader = new SegmentReader();
    reader.load(rawBuffer.subarray(0, rawLength));
    const index = reader.find(id, 0);
    if (index < 0) throw new Failure('find', hex, { kind: 'damaged' });
    const at = reader.offset(index);
    const chunk = rawBuffer.subarray(at, at + reader.length(index));
    const again = Buffer.alloc(32);
    const isIt = ([1, 2, 3] as const).some((kind) => {
      this.#hasher.id(kind, chunk, again, 0);
      return again.equals(id);
    });
    if (!isIt) throw new Failure('verify', hex, { kind: 'damaged' });
    this.#reading.facts.set(hex, hashOf(chunk));
  }
}

for (const fixture of ['format-1', 'format-1-epochs'])
  suite(`every byte of ${fixture}`, () => {
    const pristine = readFixture(path.join(FIXTURES, fixture));
    const unharmed = new Reading();
    const keys = unlock(pristine, unharmed) ?? assert.fail(unharmed.told.join('\n'));
    const chunks: Buffer[] = [];
    const NOTHING = { kind: 'config', name: '' } as const;

    before(async () => {
      const repository = new Repository(keys, pristine.clone(), unharmed);
      chunks.push(...(await idsOf(pristine, repository)));
      await repository.read(chunks, NOTHING);
      assert.deepEqual(unharmed.told, []);
      assert.ok(chunks.length > 4 && chunks.every((id) => unharmed.facts.has(id.toString('hex'))));
    });

    /** Reads the repository with one object replaced. */
    async function harm(kind: ObjectKind, name: string, bytes: Buffer, what: string): Promise<void> {
      const backend = pristine.clone();
      backend.objects[kind].set(name, bytes);
      const reading = new Reading();
      const isKey = kind === 'config' || kind === 'keys';
      const opened = isKey ? unlock(backend, reading) : keys;
      if (opened !== undefined) await new Repository(opened, backend, reading).read(chunks, { kind, name });
      for (const [fact, hash] of reading.facts)
        assert.equal(hash, unharmed.facts.get(fact), `${what}: ${fact}`);
      assert.ok(
        reading.told.some((line) => line.includes(name)),
        `${what} is not named: ${reading.told.join('; ')}`,
      );
      // all that is in other objects is there
      const lost = [...unharmed.facts.keys()].filter((fact) => !reading.facts.has(fact));
      const spares = kind === 'index' || kind === 'leases';
      if (spares)
        assert.deepEqual(
          lost.filter((fact) => !fact.startsWith('keys/')),
          [],
          what,
        );
      if (kind === 'snapshots' || kind === 'log')
        assert.deepEqual(
          lost.filter((fact) => !fact.startsWith('keys/')),
          [name],
          what,
        );
    }

    for (const kind of OBJECT_KINDS)
      test(`of ${kind}`, async (context) => {
        let states = 0;
        for (const [name, good] of pristine.objects[kind]) {
          for (let at = 0; at < good.length; at += EVERY) {
            const bad = Buffer.from(good);
            bad[at] = (bad[at] ?? 0) ^ (1 << (at & 7));
            await harm(kind, name, bad, `${kind}/${name} flipped at ${at}`);
            await harm(kind, name, good.subarray(0, at), `${kind}/${name} cut at ${at}`);
            states += 2;
          }
        }
        context.diagnostic(`${states} states`);
      });
  });

/** The ids of all chunks, by the footers of the packs. */
async function idsOf(backend: MemoryBackend, { codec }: Repository): Promise<Buffer[]> {
  const ids: Buffer[] = [];
  for (const name of backend.objects.packs.keys()) {
    const record = (await readFooter(backend, codec, name)) ?? assert.fail(name);
    for (const segment of record.segments)
      for (let at = 0; at < segment.ids.length; at += 32) ids.push(segment.ids.subarray(at, at + 32));
  }
  return ids;
}
