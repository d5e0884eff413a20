// Commands Supported and Effects log page (NVMe 1.4 base, section 5.14.1.5, figures 198 and 199; 2.0 included).
// Trade-off: the log keeps words as they come, 512 of them; one is taken apart where it is looked at.

import { bits, type Decoded, type Encodable, flag, list, structure, u32, word } from '../codec.ts'

export const EFFECTS_LOG_BYTES = 4096

const effectsLayout = {
  /** Command supported. */
  csupp: [0, flag(u32, 0)],
  /** Logical block content change. */
  lbcc: [0, flag(u32, 1)],
  /** Namespace capability change. */
  ncc: [0, flag(u32, 2)],
  /** Namespace inventory change. */
  nic: [0, flag(u32, 3)],
  /** Controller capability change. */
  ccc: [0, flag(u32, 4)],
  /** Command submission and execution relaxations (2.0). */
  cser: [0, bits(u32, 14, 2)],
  /** Command submission and execution: 0 no limit, 1 no other on the namespace, 2 no other on any. */
  cse: [0, bits(u32, 16, 3)],
  /** UUID selection supported. */
  uss: [0, flag(u32, 19)],
  /** Command scope (2.0): bit 0 namespace, 1 controller, 2 NVM set, 3 endurance group, 4 domain, 5 subsystem. */
  csp: [0, bits(u32, 20, 12)],
} as const

const effects = word('Commands Supported and Effects Data Structure', effectsLayout)

const layout = {
  /** Of the admin command with each opcode, and of the I/O command: see `decodeCommandEffects`. */
  acs: [0, list(256, u32)],
  iocs: [1024, list(256, u32)],
} as const

const log = structure('Commands Supported and Effects Log', EFFECTS_LOG_BYTES, layout)

export interface EffectsLog extends Decoded<typeof layout> {}
export interface CommandEffects extends Decoded<typeof effectsLayout> {}

/** Decodes 4096 bytes; throws DecodeError on fewer. */
export function decodeEffectsLog(bytes: Uint8Array): EffectsLog {
  return log.decode(bytes)
}

/** Encodes 4096 bytes. Commands left out at the end of a list are not supported. */
export function encodeEffectsLog(value: Encodable<typeof layout>, target?: Uint8Array): Uint8Array {
  return log.encode(value, target)
}

/** What one word of the log says of its command. */
export function decodeCommandEffects(value: number): CommandEffects {
  return effects.decode(value)
}

/** The word of a command, with `csupp` set unless given. */
export function encodeCommandEffects(value: Encodable<typeof effectsLayout> = {}): number {
  return effects.encode({ csupp: true, ...value })
}
