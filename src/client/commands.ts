/**
 * The table of commands: what the command line, the help and the completions
 * know of each. A command's module is loaded when it is run, so that no command
 * pays for another.
 */
import type { CommandRow } from './arguments.ts';

const TAG = { name: 'tag', argument: 'TAG', repeated: true, summary: 'mark the snapshot with TAG' } as const;
/** No limit of the table's own: messages have theirs, and say so. */
const ANY = Number.MAX_SAFE_INTEGER;

export const COMMANDS: readonly CommandRow[] = [
  {
    name: 'create',
    summary: 'make the repository',
    usage: '',
    options: [{ name: 'no-encryption', summary: 'as the configuration must say too' }],
    operands: [0, 0],
    load: () => import('./create.ts'),
  },
  {
    name: 'push',
    summary: 'take a snapshot of a source, or of a path with your own rights',
    usage: '[-tag TAG]... [-exclude PATTERN]... [-one-filesystem] SOURCE|PATH...',
    options: [
      TAG,
      {
        name: 'exclude',
        argument: 'PATTERN',
        repeated: true,
        summary: 'of a PATH, leave out what matches, as in plakard.conf(5)',
      },
      { name: 'one-filesystem', summary: 'of a PATH, leave out what is mounted below' },
    ],
    operands: [0, ANY],
    load: () => import('./push.ts'),
  },
  {
    name: 'ls',
    summary: 'list snapshots, or what is in one',
    usage: '[-R] [-tag TAG]... [-source SOURCE] [SNAPSHOT[:PATH]...]',
    options: [
      { name: 'R', summary: 'with all that is below' },
      { name: 'tag', argument: 'TAG', repeated: true, summary: 'only snapshots with every TAG' },
      { name: 'source', argument: 'SOURCE', summary: 'only snapshots of SOURCE' },
    ],
    operands: [0, ANY],
    load: () => import('./ls.ts'),
  },
  {
    name: 'cat',
    summary: 'write contents to standard output',
    usage: 'SNAPSHOT:PATH...',
    options: [],
    operands: [1, ANY],
    load: () => import('./cat.ts'),
  },
  {
    name: 'pull',
    summary: 'restore',
    usage: '[-to DIR] [-overwrite] SNAPSHOT[:PATH]...',
    options: [
      { name: 'to', argument: 'DIR', summary: 'directly under DIR' },
      { name: 'overwrite', summary: 'replace what is there and differs' },
    ],
    operands: [1, ANY],
    load: () => import('./pull.ts'),
  },
  {
    name: 'tarball',
    summary: 'write a tar archive',
    usage: '[-o FILE] SNAPSHOT[:PATH]...',
    options: [{ name: 'o', argument: 'FILE', summary: 'to FILE, not to standard output' }],
    operands: [1, ANY],
    load: () => import('./tarball.ts'),
  },
  {
    name: 'check',
    summary: 'verify the repository, or some snapshots',
    usage: '[-fast] [SNAPSHOT...]',
    options: [{ name: 'fast', summary: 'only that everything is there' }],
    operands: [0, ANY],
    load: () => import('./check.ts'),
  },
  {
    name: 'rm',
    summary: 'remove snapshots',
    usage: 'SNAPSHOT...',
    options: [],
    operands: [1, ANY],
    load: () => import('./rm.ts'),
  },
  {
    name: 'find',
    summary: 'look for names in snapshots',
    usage: 'PATTERN [SNAPSHOT[:PATH]...]',
    options: [],
    operands: [1, ANY],
    load: () => import('./find.ts'),
  },
  {
    name: 'diff',
    summary: 'tell what differs between two snapshots',
    usage: 'SNAPSHOT[:PATH] SNAPSHOT[:PATH]',
    options: [],
    operands: [2, 2],
    load: () => import('./diff.ts'),
  },
  {
    name: 'checksum',
    summary: 'print the SHA-256 of contents',
    usage: 'SNAPSHOT[:PATH]...',
    options: [],
    operands: [1, ANY],
    load: () => import('./checksum.ts'),
  },
  {
    name: 'info',
    summary: 'tell what the repository, or a snapshot, holds',
    usage: '[SNAPSHOT...]',
    options: [],
    operands: [0, ANY],
    load: () => import('./info.ts'),
  },
  {
    name: 'status',
    summary: 'tell what the daemon is doing',
    usage: '',
    options: [],
    operands: [0, 0],
    load: () => import('./status.ts'),
  },
  {
    name: 'monitor',
    summary: 'tell what happens to jobs, as it happens',
    usage: '',
    options: [],
    operands: [0, 0],
    load: () => import('./monitor.ts'),
  },
  {
    name: 'metrics',
    summary: 'tell ages, results and counts as OpenMetrics text',
    usage: '',
    options: [],
    operands: [0, 0],
    load: () => import('./metrics.ts'),
  },
  {
    name: 'log',
    summary: 'have the daemon log more, or less',
    usage: 'verbose|brief',
    options: [],
    operands: [1, 1],
    load: () => import('./log.ts'),
  },
  {
    name: 'reload',
    summary: 'read the configuration again',
    usage: '',
    options: [],
    operands: [0, 0],
    load: () => import('./reload.ts'),
  },
  {
    name: 'stop',
    summary: 'end the daemon',
    usage: '',
    options: [],
    operands: [0, 0],
    load: () => import('./stop.ts'),
  },
  {
    name: 'help',
    summary: 'tell about commands',
    usage: '[COMMAND]',
    options: [],
    operands: [0, 1],
    load: () => import('./help.ts'),
  },
  {
    name: 'version',
    summary: "print plakarctl's version",
    usage: '',
    options: [],
    operands: [0, 0],
    load: () => import('./version.ts'),
  },
];
