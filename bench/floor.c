// The floor of bench/driver.ts: the same ring work as its bare loop, in C. Prints nanoseconds for a command.
// Trade-off: one thread plays both sides, as there, so that the two are the same work and not the same program.

#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define ENTRIES 64
#define DEPTH 32
#define COMMANDS 1000000

static volatile uint32_t sq[ENTRIES * 16], cq[ENTRIES * 4], doorbells[4];
static uint8_t busy[ENTRIES];
static uint16_t available[ENTRIES];

static void step(void) {
  static uint32_t head, tail, phase = 1;
  uint32_t end = doorbells[2];
  while (head != end) {
    uint32_t cid = sq[head * 16] >> 16;
    head = head + 1 == ENTRIES ? 0 : head + 1;
    cq[tail * 4] = 0;
    cq[tail * 4 + 2] = head;
    cq[tail * 4 + 3] = cid | phase << 16;
    if (++tail == ENTRIES) {
      tail = 0;
      phase ^= 1;
    }
  }
}

static void run(void) {
  static uint32_t count = ENTRIES - 1, tail, head, phase = 1;
  uint32_t sent = 0;
  for (uint32_t done = 0; done < COMMANDS;) {
    while (count > ENTRIES - 1 - DEPTH && sent < COMMANDS) {
      uint32_t cid = available[--count];
      volatile uint32_t *entry = sq + tail * 16;
      entry[0] = 2 | cid << 16;
      entry[1] = 1;
      entry[6] = cid << 12;
      entry[7] = 1;
      entry[8] = 0;
      entry[9] = 0;
      entry[10] = sent;
      entry[11] = 0;
      entry[12] = 0;
      busy[cid] = 1;
      tail = tail + 1 == ENTRIES ? 0 : tail + 1;
      sent++;
    }
    doorbells[2] = tail;
    step();
    for (;;) {
      uint32_t dw3 = cq[head * 4 + 3];
      if ((dw3 >> 16 & 1) != phase) break;
      uint32_t cid = dw3 & 0xffff;
      if (++head == ENTRIES) {
        head = 0;
        phase ^= 1;
      }
      busy[cid] = 0;
      available[count++] = cid;
      done++;
    }
    doorbells[3] = head;
  }
}

int main(void) {
  for (int i = 0; i < ENTRIES; i++) available[i] = i;
  run();
  struct timespec a, b;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
  run();
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
  printf("%.2f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / COMMANDS);
  return 0;
}
