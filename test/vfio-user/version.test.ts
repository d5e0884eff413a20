// VERSION as a peer may send it: what is wrong with it is shown in a line.

import test from 'ava'
import { decodeVersion } from '../../lib/vfio-user/version.ts'

const version = (json: string) => Buffer.concat([Buffer.from([0, 0, 1, 0]), Buffer.from(`${json}\0`)])

test('decodeVersion shows what came as every message of the driver does', (t) => {
  for (const [json, message] of [
    ['{"capabilities":{"max_msg_fds":"8"}}', "VERSION: max_msg_fds of '8': a number from 1 on is needed"],
    [
      '{"capabilities":{"max_msg_fds":{"a":1}}}',
      'VERSION: max_msg_fds of { a: 1 }: a number from 1 on is needed',
    ],
    ['{"capabilities":"none"}', "VERSION: an object is needed, not 'none'"],
    [`{${'x'.repeat(100)}`, `VERSION: no JSON object: "{${'x'.repeat(78)}…"`],
  ] as const) {
    t.throws(() => decodeVersion(version(json)), { code: 'ERR_UNVME_DECODE', message }, json)
  }
  const deep = `{"capabilities":{"max_msg_fds":${'['.repeat(2000)}${']'.repeat(2000)}}}`
  const error = t.throws(() => decodeVersion(version(deep)), { code: 'ERR_UNVME_DECODE' })
  t.true(error.message.length < 160)
})
