/**
 * A child's channels to its peers. Used by child.ts.
 *
 * The parent makes each channel and sends its ends, at start, late and after a
 * restart alike. Invariant: one channel per peer; a peer that breaks the rules
 * loses that channel, the parent is told, and nothing else happens here.
 */
import { Failure } from '../error.ts';
import { Channel } from '../ipc/channel.ts';
import { childName } from './declare.ts';

/** Registers the role's handlers on a new channel to a peer. */
export type PeerTaker = (channel: Channel, instance: string) => void;
/** Told when a peer is gone: `error` is missing where it simply closed. */
export type PeerLoser = (instance: string, error: unknown) => void;

interface Peer {
  readonly role: string;
  readonly instance: string;
  readonly channel: Channel;
  /** resolves when the channel has ended, for whatever reason */
  ended: Promise<void>;
}

/** The ends of a channel, and whose it is. */
export interface PeerEnds {
  readonly role: string;
  readonly instance: string;
  readonly stream: number;
  readonly descriptors: number;
}

export class Peers {
  readonly #peers = new Map<string, Peer>();
  readonly #takers = new Map<string, PeerTaker>();
  readonly #losers = new Map<string, PeerLoser>();
  readonly #complain: (role: string, instance: string, error: unknown) => void;

  constructor(complain: (role: string, instance: string, error: unknown) => void) {
    this.#complain = complain;
  }

  onTaken(role: string, taker: PeerTaker): void {
    this.#takers.set(role, taker);
  }

  onLost(role: string, loser: PeerLoser): void {
    this.#losers.set(role, loser);
  }

  /** The channel to a peer; without `instance`, to the first of that role. */
  find(role: string, instance?: string): Channel | undefined {
    if (instance !== undefined) return this.#peers.get(childName(role, instance))?.channel;
    for (const peer of this.#peers.values()) if (peer.role === role) return peer.channel;
    return undefined;
  }

  /** All channels to peers of `role`, by instance. */
  all(role: string): Map<string, Channel> {
    const found = new Map<string, Channel>();
    for (const peer of this.#peers.values()) if (peer.role === role) found.set(peer.instance, peer.channel);
    return found;
  }

  /** Takes a new channel into use. One that the peer had before is closed. */
  take({ role, instance, stream, descriptors }: PeerEnds): void {
    const name = childName(role, instance);
    const taker = this.#takers.get(role);
    const channel = new Channel({ stream, descriptors }, { name });
    if (taker === undefined) {
      channel.close();
      throw new Failure('take peer', name, { cause: 'this role expects none such' });
    }
    const peer: Peer = { role, instance, channel, ended: Promise.resolve() };
    const before = this.#peers.get(name);
    this.#peers.set(name, peer);
    before?.channel.close();
    taker(channel, instance);
    peer.ended = channel.dispatch().then(
      () => this.#lose(peer, undefined),
      (error: unknown) => this.#lose(peer, error),
    );
  }

  /** Closes all channels; resolves when what was queued has been sent, or cannot be. */
  async close(): Promise<void> {
    const peers = [...this.#peers.values()];
    for (const { channel } of peers) channel.close();
    await Promise.all(peers.map(({ ended }) => ended));
  }

  #lose(peer: Peer, error: unknown): void {
    const name = childName(peer.role, peer.instance);
    if (this.#peers.get(name) === peer) this.#peers.delete(name);
    peer.channel.close();
    if (error !== undefined) this.#complain(peer.role, peer.instance, error);
    this.#losers.get(peer.role)?.(peer.instance, error);
  }
}
