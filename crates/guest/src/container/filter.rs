//! The filter of system calls as the kernel takes it: a program of classic BPF, made from the lists of `syscalls`.
//!
//! A call's number is looked up by halving; what a call may be given is looked at in the lower 32 bits of its
//! arguments, which is all that the kernel itself takes of those that are looked at here.

use nix::libc::{self, c_long};
use seccompiler::sock_filter as Step;

use super::syscalls::{ALLOWED, NETLINK, NEW_NAMESPACES, PERSONALITIES, REFUSED, SOCKETS, TYPE_MASK, UNIX};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Allow,
    /// `EPERM`.
    Refuse,
    /// `ENOSYS`.
    Unknown,
    /// It depends on its arguments.
    Look(Look),
}

/// Calls whose arguments are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Clone,
    Socket,
    SocketPair,
    Personality,
}

/// `AUDIT_ARCH_X86_64`.
const X86_64: u32 = 0xc000_003e;
/// Calls of the x32 architecture, which share that number, have this bit.
const X32: u32 = 0x4000_0000;

/// Where the kernel shows the program a call: its number, its architecture, its arguments of 8 bytes each.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL: u32 = 0x8000_0000;

/// The filter.
pub(crate) fn program() -> Vec<Step> {
    let mut steps = vec![
        load(ARCHITECTURE),
        jump(EQUAL, X86_64, 1, 0),
        answer(KILL),
        load(NUMBER),
        jump(AT_LEAST, X32, 0, 1),
        answer(KILL),
    ];
    steps.extend(halved(&fates()));
    steps
}

/// More than any number that is named.
const NUMBERS: u32 = 512;

/// Ranges of numbers with one fate, by their first number, in order; the last has no end.
fn fates() -> Vec<(u32, Fate)> {
    let mut fates = [Fate::Unknown; NUMBERS as usize];
    let mut give = |calls: &[c_long], fate| {
        for call in calls {
            if let Some(place) = usize::try_from(*call).ok().and_then(|call| fates.get_mut(call)) {
                *place = fate;
            }
        }
    };
    give(ALLOWED, Fate::Allow);
    give(REFUSED, Fate::Refuse);
    give(&[libc::SYS_clone], Fate::Look(Look::Clone));
    give(&[libc::SYS_socket], Fate::Look(Look::Socket));
    give(&[libc::SYS_socketpair], Fate::Look(Look::SocketPair));
    give(&[libc::SYS_personality], Fate::Look(Look::Personality));
    let mut ranges = Vec::new();
    let mut last = None;
    for (number, fate) in (0..).zip(fates).chain([(NUMBERS, Fate::Unknown)]) {
        if last != Some(fate) {
            ranges.push((number, fate));
        }
        last = Some(fate);
    }
    ranges
}

/// Finds the range of the number that is loaded.
fn halved(ranges: &[(u32, Fate)]) -> Vec<Step> {
    let (below, above) = ranges.split_at(ranges.len() / 2);
    match (below, above) {
        ([], []) => vec![answer(ERRNO | libc::ENOSYS.cast_unsigned())],
        ([], [(_, fate), ..]) => decided(*fate),
        (_, [(middle, _), ..]) => {
            let below = halved(below);
            let mut steps = vec![jump(AT_LEAST, *middle, 0, 1), skip(below.len())];
            steps.extend(below);
            steps.extend(halved(above));
            steps
        }
        // The second half is never the smaller one.
        (_, []) => halved(below),
    }
}

fn decided(fate: Fate) -> Vec<Step> {
    match fate {
        Fate::Allow => vec![answer(ALLOW)],
        Fate::Refuse => vec![answer(ERRNO | libc::EPERM.cast_unsigned())],
        Fate::Unknown => vec![answer(ERRNO | libc::ENOSYS.cast_unsigned())],
        Fate::Look(look) => {
            let mut steps: Vec<Step> = ways(look).iter().flat_map(|way| allowed_if(way)).collect();
            steps.push(answer(ERRNO | libc::ENOSYS.cast_unsigned()));
            steps
        }
    }
}

/// What one argument must be, under a mask.
struct Wanted {
    argument: u32,
    mask: u32,
    value: u32,
}

/// The ways in which a call is allowed: in each, every argument is as wanted.
fn ways(look: Look) -> Vec<Vec<Wanted>> {
    let masked = |argument, mask, value| Wanted { argument, mask, value };
    let exactly = |argument, value| masked(argument, u32::MAX, value);
    match look {
        Look::Clone => vec![vec![masked(0, NEW_NAMESPACES, 0)]],
        Look::SocketPair => vec![vec![exactly(0, UNIX)]],
        Look::Personality => PERSONALITIES.iter().map(|which| vec![exactly(0, *which)]).collect(),
        Look::Socket => SOCKETS
            .iter()
            .map(|(family, kind, protocol)| {
                vec![exactly(0, *family), masked(1, TYPE_MASK, *kind), exactly(2, *protocol)]
            })
            .chain([vec![exactly(0, NETLINK), exactly(2, 0)]])
            .collect(),
    }
}

/// Allows the call if every argument is as wanted, else goes on behind.
fn allowed_if(way: &[Wanted]) -> Vec<Step> {
    let mut steps = Vec::new();
    for (index, wanted) in way.iter().enumerate() {
        let left = way.len() - index - 1;
        steps.extend([
            load(ARGUMENTS + 8 * wanted.argument),
            Step { code: MASK, jt: 0, jf: 0, k: wanted.mask },
            // Past the three steps of each argument that is left, and the answer.
            jump(EQUAL, wanted.value, 0, u8::try_from(3 * left + 1).unwrap_or(u8::MAX)),
        ]);
    }
    steps.push(answer(ALLOW));
    steps
}

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_ALU | BPF_AND | BPF_K`, `BPF_RET | BPF_K` and jumps of `linux/bpf_common.h`.
const LOAD: u16 = 0x20;
const MASK: u16 = 0x54;
const ANSWER: u16 = 0x06;
const SKIP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;

fn load(at: u32) -> Step {
    Step { code: LOAD, jt: 0, jf: 0, k: at }
}

/// Compares what is loaded, and leaves out so many steps.
fn jump(code: u16, value: u32, yes: u8, no: u8) -> Step {
    Step { code, jt: yes, jf: no, k: value }
}

fn skip(steps: usize) -> Step {
    Step { code: SKIP, jt: 0, jf: 0, k: u32::try_from(steps).unwrap_or(u32::MAX) }
}

fn answer(what: u32) -> Step {
    Step { code: ANSWER, jt: 0, jf: 0, k: what }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPERM: u32 = ERRNO | 1;
    const ENOSYS: u32 = ERRNO | 38;

    /// What the kernel would make of the program.
    fn run(architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = [number, architecture, 0, 0].map(u32::to_le_bytes).concat();
        data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        let word = |at: u32| u32::from_le_bytes(data[at as usize..at as usize + 4].try_into().unwrap());
        let steps = program();
        let (mut at, mut loaded) = (0, 0);
        loop {
            let step = &steps[at];
            at += 1;
            let mut choose = |so| at += usize::from(if so { step.jt } else { step.jf });
            match step.code {
                LOAD => loaded = word(step.k),
                MASK => loaded &= step.k,
                EQUAL => choose(loaded == step.k),
                AT_LEAST => choose(loaded >= step.k),
                SKIP => at += step.k as usize,
                ANSWER => return step.k,
                code => panic!("{code}"),
            }
        }
    }

    fn call(number: c_long, arguments: [u64; 3]) -> u32 {
        let [a, b, c] = arguments;
        run(X86_64, u32::try_from(number).unwrap(), [a, b, c, 0, 0, 0])
    }

    #[test]
    fn every_number_has_the_fate_that_the_lists_give_it() {
        let looked_at = [libc::SYS_clone, libc::SYS_socket, libc::SYS_socketpair, libc::SYS_personality];
        for number in (0..1_000).filter(|number| !looked_at.contains(number)) {
            let wanted = if ALLOWED.contains(&number) {
                ALLOW
            } else if REFUSED.contains(&number) {
                EPERM
            } else {
                ENOSYS
            };
            assert_eq!(call(number, [0; 3]), wanted, "{number}");
        }
        for number in [0x3fff_ffff, 100_000] {
            assert_eq!(run(X86_64, number, [0; 6]), ENOSYS);
        }
    }

    #[test]
    fn foreign_architectures_are_killed() {
        for architecture in [0, 0x4000_0003, 0xc000_00b7] {
            assert_eq!(run(architecture, 0, [0; 6]), KILL);
        }
        for number in [X32, X32 | 1, u32::MAX] {
            assert_eq!(run(X86_64, number, [0; 6]), KILL);
        }
    }

    #[test]
    fn clone_makes_no_namespace_whatever_else_it_does() {
        let flags = |flags| call(libc::SYS_clone, [flags, 0, 0]);
        assert_eq!(flags(0x003d_0f00), ALLOW, "a thread");
        assert_eq!(flags(17), ALLOW, "a process");
        for bit in (0..32).filter(|bit| NEW_NAMESPACES >> bit & 1 == 1) {
            assert_eq!(flags(17 | 1 << bit), ENOSYS, "{bit}");
        }
        for namespace in
            [0x80, 0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
        {
            assert_eq!(u64::from(NEW_NAMESPACES) & namespace, namespace);
        }
    }

    #[test]
    fn sockets_are_those_of_the_list_with_any_flag_of_their_type() {
        for family in 0..50 {
            for kind in 0..16 {
                for protocol in [0, 1, 2, 6, 15, 17, 58, 132, 136, 255, 262] {
                    let listed =
                        SOCKETS.contains(&(family, kind, protocol)) || (family == NETLINK && protocol == 0);
                    let wanted = if listed { ALLOW } else { ENOSYS };
                    for flags in [0, 0o4000, 0o2_000_000] {
                        let arguments = [family.into(), u64::from(kind) | flags, protocol.into()];
                        assert_eq!(call(libc::SYS_socket, arguments), wanted, "{family} {kind} {protocol}");
                    }
                }
            }
        }
        assert_eq!(call(libc::SYS_socketpair, [1, 1, 0]), ALLOW);
        assert_eq!(call(libc::SYS_socketpair, [2, 1, 0]), ENOSYS);
    }

    #[test]
    fn personality_stays_that_of_linux() {
        for (which, wanted) in [(0, ALLOW), (0xffff_ffff, ALLOW), (8, ENOSYS), (0x0040_0000, ENOSYS)] {
            assert_eq!(call(libc::SYS_personality, [which, 0, 0]), wanted);
        }
    }

    #[test]
    fn the_kernel_takes_the_program() {
        assert!(program().len() < 4096);
        // On a thread of its own, which ends with it.
        let set = std::thread::spawn(|| {
            seccompiler::apply_filter(&program()).unwrap();
            nix::unistd::getppid();
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS)
        });
        assert_eq!(set.join().unwrap(), Err(nix::errno::Errno::EPERM));
    }
}
