//! The steps of a history, and dice that throw them.

/// How a delivery ends in a history. Delays are in eighths of a lease.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Succeed,
    Retry(u32),
    Release(u32),
    Bury,
    Cancel,
    Expire,
}

/// One step. Whoever is meant is picked by a number modulo those there are, so that any part of a history is one.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// Adds tasks that were rescued `deliveries` times, due after `delay` eighths of a lease.
    Enqueue {
        count: u32,
        priority: u8,
        deliveries: u8,
        delay: u32,
    },
    /// Repeats the last enqueue call through another handle.
    RepeatEnqueue,
    /// Settles picked deliveries, some of them not held, and fetches.
    Exchange {
        who: usize,
        ends: Vec<(usize, End)>,
        want: u32,
    },
    /// Repeats the last exchange, as after a lost reply, through another handle.
    Repeat { who: usize },
    /// Sends a number that does not follow.
    Astray { who: usize },
    /// Writes a start mark.
    Mark { who: usize, pick: usize },
    /// Ends a delivery from outside.
    Take { who: usize, pick: usize, end: End },
    /// Releases deliveries from outside.
    Release { who: usize, picks: Vec<usize> },
    /// Ends a consumer in order; another one takes its place.
    Close { who: usize },
    /// A consumer falls silent; another one takes its place.
    Crash { who: usize },
    /// A consumer that fell silent wants to settle and fetch all the same.
    Ghost { who: usize, end: End },
    /// The process of a silent consumer is proven dead.
    Prove { who: usize },
    /// Time passes by quarters of a lease, with renewals and sweeps of `limit` tasks as a watchdog does them.
    Watch { quarters: u32, limit: u32 },
    /// Three leases pass in which nobody does anything.
    Outage,
    /// One sweep.
    Sweep { limit: u32 },
    /// One promotion.
    Promote { limit: u32 },
    /// Pauses or resumes.
    Pause(bool),
    /// Drops some of the dead.
    DropDead { count: u32 },
}

/// Returns the history of a seed. Where time is not free, none passes in it.
pub(super) fn random(seed: u32, steps: usize, time_is_free: bool) -> Vec<Op> {
    let mut dice = Dice(u64::from(seed));
    let mut history = Vec::with_capacity(steps);
    while history.len() < steps {
        let op = dice.op();
        if time_is_free || !matches!(op, Op::Watch { .. } | Op::Outage) {
            history.push(op);
        }
    }
    history
}

/// Random numbers of a seed (Sebastiano Vigna's `SplitMix64`): the same on every machine, for ever.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Throws a number below `sides`.
    fn below(&mut self, sides: u32) -> u32 {
        u32::try_from(self.next() % u64::from(sides)).expect("it is below a u32")
    }

    fn pick(&mut self) -> usize {
        self.below(1_000) as usize
    }

    fn one_of<T: Copy>(&mut self, sides: &[T]) -> T {
        sides[self.pick() % sides.len()]
    }

    fn end(&mut self) -> End {
        let delay = self.one_of(&[0, 0, 3, 20]);
        self.one_of(&[
            End::Succeed,
            End::Succeed,
            End::Retry(delay),
            End::Release(delay),
            End::Bury,
            End::Cancel,
            End::Expire,
        ])
    }

    fn op(&mut self) -> Op {
        let who = self.pick();
        match self.below(36) {
            0..6 => Op::Enqueue {
                count: 1 + self.below(5),
                priority: self.one_of(&[0, 5, 5, 5, 9]),
                deliveries: self.one_of(&[0, 0, 0, 1, 2, 18]),
                delay: self.one_of(&[0, 0, 0, 2, 30]),
            },
            6 => Op::RepeatEnqueue,
            7..17 => {
                let ends = self.one_of(&[0, 1, 2, 4]);
                Op::Exchange {
                    who,
                    ends: (0..ends).map(|_| (self.pick(), self.end())).collect(),
                    want: self.one_of(&[0, 1, 2, 5]),
                }
            }
            17..20 => Op::Repeat { who },
            20 => Op::Astray { who },
            21 => Op::Mark {
                who,
                pick: self.pick(),
            },
            22 => Op::Take {
                who,
                pick: self.pick(),
                end: self.end(),
            },
            23 => Op::Release {
                who,
                picks: (0..3).map(|_| self.pick()).collect(),
            },
            24 => Op::Close { who },
            25..28 => Op::Crash { who },
            28 => Op::Ghost {
                who,
                end: self.end(),
            },
            29 => Op::Prove { who },
            30..32 => Op::Watch {
                quarters: 1 + self.below(6),
                limit: self.one_of(&[1, 3, 500]),
            },
            32 => self.one_of_rare(),
            33 => Op::Sweep {
                limit: self.one_of(&[0, 1, 2, 500]),
            },
            34 => Op::Promote {
                limit: self.one_of(&[1, 3, 500]),
            },
            _ => Op::DropDead {
                count: 1 + self.below(3),
            },
        }
    }

    fn one_of_rare(&mut self) -> Op {
        match self.below(5) {
            0..2 => Op::Outage,
            2 => Op::Pause(true),
            _ => Op::Pause(false),
        }
    }
}
