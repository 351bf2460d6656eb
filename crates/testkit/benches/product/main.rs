//! What the product costs, as ratios to what would be there without it, both measured in the same run: `./x bench`.
//!
//! Nothing is asserted here: a machine that is busy with other work gives bad times, but fair ratios. A new benchmark is
//! one more file, and one more line in [`BENCHES`].

mod bare;
mod boot;
mod cells;
mod decision;
mod door;
mod egress;
mod import;
mod inside;
mod ledger;
mod memory;
mod model;
mod report;
mod tools;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;

use cells::Ground;
use report::{Number, Report};

/// Any failure, for people.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;
type Measured<'a> = Pin<Box<dyn Future<Output = Result<Vec<Number>>> + 'a>>;

/// A benchmark.
struct Bench {
    /// What `./x bench NAME` calls it.
    name: &'static str,
    /// What it lacks on this host, if anything.
    lacks: fn() -> Option<String>,
    run: for<'a> fn(&'a mut Ground) -> Measured<'a>,
}

/// All of them, in the order in which they run.
const BENCHES: &[Bench] = &[
    Bench { name: "boot", lacks: bare::lacks, run: |ground| Box::pin(boot::run(ground)) },
    Bench { name: "door", lacks: bare::lacks, run: |ground| Box::pin(door::run(ground)) },
    Bench { name: "model", lacks: || None, run: |ground| Box::pin(model::run(ground)) },
    Bench { name: "decision", lacks: || None, run: |_| Box::pin(decision::run()) },
    Bench { name: "ledger", lacks: ledger::lacks, run: |_| Box::pin(ledger::run()) },
    Bench { name: "tools", lacks: || None, run: |_| Box::pin(tools::run()) },
    Bench { name: "egress", lacks: egress::lacks, run: |_| Box::pin(egress::run()) },
    Bench { name: "memory", lacks: memory::lacks, run: |ground| Box::pin(memory::run(ground)) },
    Bench { name: "import", lacks: import::lacks, run: |ground| Box::pin(import::run(ground)) },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let ["inside", rest @ ..] = args.as_slice() {
        return ended(inside::main(rest));
    }
    // `cargo bench` says so to whatever it runs.
    let words = args.into_iter().filter(|word| *word != "--bench");
    let (options, names): (Vec<&str>, Vec<&str>) = words.partition(|word| word.starts_with('-'));
    let unknown = options.iter().find(|option| **option != "--json");
    let unknown = unknown.or_else(|| names.iter().find(|name| BENCHES.iter().all(|b| b.name != **name)));
    if let Some(word) = unknown {
        let all: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
        eprintln!("bench: `{word}` is not known; there are: {} --json", all.join(" "));
        return ExitCode::from(64);
    }
    ended(measure(&names, !options.is_empty()))
}

fn ended(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs those of these names, or all, and prints what came out.
fn measure(names: &[&str], json: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let mut ground = Ground::open()?;
        let mut report = Report::default();
        for bench in BENCHES.iter().filter(|bench| names.is_empty() || names.contains(&bench.name)) {
            if let Some(lack) = (bench.lacks)() {
                eprintln!("bench: `{}` is skipped: {lack}", bench.name);
                report.skipped.push((bench.name, lack));
                continue;
            }
            eprintln!("bench: {}", bench.name);
            let numbers =
                (bench.run)(&mut ground).await.map_err(|error| format!("`{}`: {error}", bench.name))?;
            report.numbers.extend(numbers.into_iter().map(|number| (bench.name, number)));
        }
        report.machine = ground.machine();
        Ok::<_, Failure>(report)
    })?;
    // Tasks of cells and connections that are over need not be waited for.
    runtime.shutdown_background();
    print!("{}", if json { report.json()? } else { report.table() });
    Ok(())
}
