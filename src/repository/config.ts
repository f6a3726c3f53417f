/**
 * The configuration object: what a repository is, in the clear. Called where a
 * repository is made or opened. It is a plain object (frame.ts) around a
 * msgpack map; its SHA-256 salts every key (derive.ts), so one that was changed
 * opens nothing.
 */
import { boolean, bytes, integer, oneOf, type PayloadOf, real, record } from '../ipc/shape.ts';
import { decodePlain, encodePlain, MAGIC } from '../keys/frame.ts';
import { decodeMsgpack, encodeMsgpack } from '../keys/msgpack.ts';
import {
  CHUNK_MAX_BYTES,
  CHUNK_MIN_BYTES,
  CHUNK_NORMAL_BYTES,
  CONFIG_MAX_BYTES,
  PACK_MAX_BYTES,
  PACK_TARGET_BYTES,
  SEGMENT_DATA_MAX_BYTES,
  SEGMENT_TARGET_BYTES,
} from './constants.ts';

/** The name of the one object of kind `config`. */
export const CONFIG_NAME = 'config';

const shape = record({
  chunk: record({
    max: integer(1, CHUNK_MAX_BYTES),
    min: integer(1, CHUNK_MAX_BYTES),
    normal: integer(1, CHUNK_MAX_BYTES),
  }),
  /** ms since 1970 */
  created: real,
  encryption: boolean,
  /** bytes at which a pack is closed */
  pack: integer(1, PACK_MAX_BYTES / 2),
  /** UUID */
  repository: bytes(16, 16),
  /** bytes at which a segment is closed */
  segment: integer(1, SEGMENT_DATA_MAX_BYTES),
  splitter: oneOf('fastcdc1'),
});
export type RepositoryConfig = PayloadOf<typeof shape>;

/** The configuration of a new repository, with the sizes of format 1. */
export function newConfig(repository: Buffer, createdMs: number, encryption: boolean): RepositoryConfig {
  return {
    chunk: { max: CHUNK_MAX_BYTES, min: CHUNK_MIN_BYTES, normal: CHUNK_NORMAL_BYTES },
    created: createdMs,
    encryption,
    pack: PACK_TARGET_BYTES,
    repository,
    segment: SEGMENT_TARGET_BYTES,
    splitter: 'fastcdc1',
  };
}

export function encodeConfig(config: RepositoryConfig): Buffer {
  return encodePlain(MAGIC.config, encodeMsgpack(config));
}

/** Throws a Failure of kind 'damaged'. */
export function decodeConfig(object: Buffer): RepositoryConfig {
  const content = decodePlain(object, MAGIC.config, CONFIG_NAME, CONFIG_MAX_BYTES);
  return decodeMsgpack(content, shape, CONFIG_NAME);
}
