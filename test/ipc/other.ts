/** Starts the other process of a test, peer.ts, at the far end of a channel. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Channel, type ChannelOptions, channelPair } from '../../src/ipc/channel.ts';
import { closeAll } from '../../src/sys/socket.ts';

export interface Other {
  readonly child: ChildProcess;
  readonly channel: Channel;
  /** What it prints, line by line. */
  line(): Promise<string>;
  /** Kills it, if it is still there, and waits for its end. */
  end(): Promise<void>;
}

export function startOther(role: 'echo' | 'deaf' | 'poor', options: Partial<ChannelOptions> = {}): Other {
  const [ours, theirs] = channelPair();
  const program = fileURLToPath(new URL('./peer.ts', import.meta.url));
  const child = spawn(process.execPath, [program, role], {
    stdio: ['ignore', 'pipe', 'inherit', theirs.stream, theirs.descriptors],
  });
  closeAll([theirs.stream, theirs.descriptors]);
  const exited = once(child, 'exit');
  let printed = '';
  let wake: (() => void) | undefined;
  child.stdout?.on('data', (data: Buffer) => {
    printed += data.toString();
    wake?.();
  });
  const channel = new Channel(ours, { name: `peer ${role}`, ...options });
  return {
    child,
    channel,
    async line() {
      for (;;) {
        const end = printed.indexOf('\n');
        if (end >= 0) {
          const line = printed.slice(0, end);
          printed = printed.slice(end + 1);
          return line;
        }
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    async end() {
      channel.close();
      child.kill('SIGKILL');
      await exited;
    },
  };
}
