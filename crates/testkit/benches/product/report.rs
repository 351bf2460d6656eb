//! Numbers with what they are held against, as a table for people or as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// One thing that was measured.
#[derive(Debug)]
pub struct Number {
    /// What.
    pub name: String,
    /// What `ours` and the baseline are counted in.
    pub unit: &'static str,
    /// With the product.
    pub ours: f64,
    /// Without it: what that is, and the number. The ratio is `ours` by this.
    pub baseline: Option<(&'static str, f64)>,
    /// The highest ratio that is wanted.
    pub target: Option<f64>,
}

impl Number {
    /// A number with a baseline.
    pub fn against(
        name: impl Into<String>,
        unit: &'static str,
        ours: f64,
        what: &'static str,
        baseline: f64,
    ) -> Self {
        Self { name: name.into(), unit, ours, baseline: Some((what, baseline)), target: None }
    }

    /// A number on its own.
    pub fn alone(name: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self { name: name.into(), unit, ours, baseline: None, target: None }
    }

    /// The same with a target.
    #[must_use]
    pub fn at_most(self, target: f64) -> Self {
        Self { target: Some(target), ..self }
    }

    fn ratio(&self) -> Option<f64> {
        self.baseline.map(|(_, baseline)| self.ours / baseline)
    }

    fn met(&self) -> Option<bool> {
        Some(self.ratio()? <= self.target?)
    }

    fn json(&self, bench: &str) -> Value {
        json!({
            "bench": bench, "number": self.name, "unit": self.unit, "ours": self.ours,
            "against": self.baseline.map(|(what, _)| what), "baseline": self.baseline.map(|(_, number)| number),
            "ratio": self.ratio(), "target": self.target, "met": self.met(),
        })
    }

    fn row(&self, bench: &str) -> [String; 7] {
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        [
            bench.to_owned(),
            self.name.clone(),
            format!("{} {}", short(self.ours), self.unit),
            text(self.baseline.map(|(what, number)| format!("{} {} {what}", short(number), self.unit))),
            text(self.ratio().map(|ratio| format!("{}×", short(ratio)))),
            text(self.target.map(|target| format!("≤ {target}×"))),
            text(self.met().map(|met| if met { "yes" } else { "NO" }.to_owned())),
        ]
    }
}

/// All of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// What the cells ran on, if there were any.
    pub machine: Option<String>,
    /// Each with the name of its benchmark.
    pub numbers: Vec<(&'static str, Number)>,
    /// Benchmarks that could not be run, and why.
    pub skipped: Vec<(&'static str, String)>,
}

impl Report {
    /// For people.
    pub fn table(&self) -> String {
        let head = ["bench", "number", "ours", "baseline", "ratio", "target", "met"].map(str::to_owned);
        let rows: Vec<_> =
            std::iter::once(head).chain(self.numbers.iter().map(|(bench, n)| n.row(bench))).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..7).map(width).collect();
        let mut table = String::new();
        for row in rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            table.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            table.push('\n');
        }
        if let Some(machine) = &self.machine {
            writeln!(table, "machines: {machine}").expect("a string takes it");
        }
        for (bench, why) in &self.skipped {
            writeln!(table, "skipped: {bench}: {why}").expect("a string takes it");
        }
        table
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Result<String> {
        let numbers: Vec<_> = self.numbers.iter().map(|(bench, number)| number.json(bench)).collect();
        let skipped: Vec<_> =
            self.skipped.iter().map(|(bench, why)| json!({"bench": bench, "why": why})).collect();
        let report = json!({"machines": self.machine, "numbers": numbers, "skipped": skipped});
        Ok(serde_json::to_string_pretty(&report)? + "\n")
    }
}

/// Three digits that count.
fn short(number: f64) -> String {
    match number.abs() {
        n if n >= 100.0 => format!("{number:.0}"),
        n if n >= 10.0 => format!("{number:.1}"),
        n if n >= 1.0 => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}

/// The middle one; of an even count, the mean of the middle two.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => numbers[middle],
        _ => f64::midpoint(numbers[middle - 1], numbers[middle]),
    }
}
