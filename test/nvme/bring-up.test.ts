// How long a controller is waited for, by what it says of itself.

import test from 'ava'
import { shutdownTime } from '../../lib/nvme/host/states.ts'

test('a shutdown is waited for as long as RTD3E says, five seconds at least and a minute at most', (t) => {
  t.is(shutdownTime(0), 5000, 'RTD3E of a controller that reports none')
  t.is(shutdownTime(1), 5000)
  t.is(shutdownTime(5_000_000), 5000)
  t.is(shutdownTime(12_345_000), 12_345)
  t.is(shutdownTime(60_000_000), 60_000)
  t.is(shutdownTime(60_000_001), 60_000)
  t.is(shutdownTime(0xffff_ffff), 60_000, 'not the 71 minutes that it may say')
})
