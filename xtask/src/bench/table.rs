//! The figures of all rounds, and the table of their medians.

use std::collections::BTreeMap;

use crate::arguments::BenchPlan;

pub(super) const HEARTH: &str = "Hearth";
/// A copy of a model folder that was prepared is named after the folder, with this behind.
const PREPARED: &str = "-prepared";

/// Tokens per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Speed {
    pub(super) prefill: f64,
    pub(super) decode: f64,
}

/// What one program measured on one model in one round.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Figures {
    /// By the tokens that were in the KV cache before.
    pub(super) speeds: BTreeMap<usize, Speed>,
    pub(super) load_seconds: Option<f64>,
    pub(super) peak_bytes: Option<f64>,
    /// The time to the first token, in the first and the last turn of a chat.
    pub(super) first_turn_seconds: Option<f64>,
    pub(super) last_turn_seconds: Option<f64>,
    pub(super) idle_cpu_share: Option<f64>,
    pub(super) threads: Option<usize>,
}

/// All rounds of one program on one model.
#[derive(Debug)]
struct Row {
    program: String,
    model: String,
    rounds: Vec<Figures>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// The figures of one round, to be filled in.
    pub(super) fn round(&mut self, program: &str, model: &str, round: usize) -> &mut Figures {
        let found = self.rows.iter().position(|row| row.program == program && row.model == model);
        let index = found.unwrap_or_else(|| {
            let (program, model) = (program.to_owned(), model.to_owned());
            self.rows.push(Row { program, model, rounds: Vec::new() });
            self.rows.len() - 1
        });
        let rounds = &mut self.rows[index].rounds;
        if rounds.len() <= round {
            rounds.resize(round + 1, Figures::default());
        }
        &mut rounds[round]
    }

    /// The threads that Hearth took.
    pub(super) fn threads(&self) -> Option<usize> {
        self.rows.iter().flat_map(|row| &row.rounds).find_map(|figures| figures.threads)
    }

    /// The medians, and below them how many times faster Hearth is.
    pub(super) fn markdown(&self, plan: &BenchPlan) -> String {
        let mut lines = self.medians(plan);
        let ratios = self.ratios(plan);
        if ratios.len() > 2 {
            lines.push(String::new());
            lines.extend(ratios);
        }
        let BenchPlan { prompt, new, rounds, .. } = plan;
        let threads = plan
            .threads
            .or(self.threads())
            .map_or_else(String::new, |threads| format!(", {threads} threads"));
        lines.push(format!(
            "\nMedians of {rounds} interleaved rounds; {prompt} tokens read, {new} written{threads}. Speeds in \
             tokens per second. ×: Hearth's speed divided by the other's, the median of each round's ratio."
        ));
        lines.join("\n")
    }

    fn medians(&self, plan: &BenchPlan) -> Vec<String> {
        let mut head = vec!["Program".to_owned(), "Model".to_owned()];
        head.extend(
            plan.depths
                .iter()
                .flat_map(|&depth| [format!("Prefill{}", behind(depth)), format!("Decode{}", behind(depth))]),
        );
        let others =
            ["Load, s", "First token in turn 1, ms", "in turn 10, ms", "Peak memory, MB", "CPU at rest, %"];
        head.extend(others.map(str::to_owned));
        let mut lines = vec![line(&head), rule(2, head.len() - 2)];
        for row in &self.rows {
            let mut cells = vec![row.program.clone(), row.model.clone()];
            for depth in &plan.depths {
                let of =
                    |speed: fn(&Speed) -> f64| row.median(|figures| figures.speeds.get(depth).map(speed));
                cells.push(number(of(|speed| speed.prefill), 1.0, 1));
                cells.push(number(of(|speed| speed.decode), 1.0, 1));
            }
            cells.push(number(row.median(|figures| figures.load_seconds), 1.0, 2));
            cells.push(number(row.median(|figures| figures.first_turn_seconds), 1e3, 0));
            cells.push(number(row.median(|figures| figures.last_turn_seconds), 1e3, 0));
            cells.push(number(row.median(|figures| figures.peak_bytes), 1e-6, 0));
            cells.push(number(row.median(|figures| figures.idle_cpu_share), 100.0, 1));
            lines.push(line(&cells));
        }
        lines
    }

    fn ratios(&self, plan: &BenchPlan) -> Vec<String> {
        let mut head = vec!["Hearth on".to_owned(), "beside".to_owned()];
        head.extend(plan.depths.iter().flat_map(|&depth| {
            [format!("Prefill ×{}", behind(depth)), format!("Decode ×{}", behind(depth))]
        }));
        let mut lines = vec![line(&head), rule(2, head.len() - 2)];
        for (own, other) in self.pairs() {
            let mut cells = vec![own.model.clone(), format!("{} on {}", other.program, other.model)];
            for depth in &plan.depths {
                let of = |speed: fn(&Speed) -> f64| {
                    let ratios = own.rounds.iter().zip(&other.rounds).filter_map(|(own, other)| {
                        Some(speed(own.speeds.get(depth)?) / speed(other.speeds.get(depth)?))
                    });
                    median(ratios.collect())
                };
                cells.push(number(of(|speed| speed.prefill), 1.0, 2));
                cells.push(number(of(|speed| speed.decode), 1.0, 2));
            }
            lines.push(line(&cells));
        }
        lines
    }

    /// Hearth beside whatever ran on the same model or on that before it was prepared, and beside programs
    /// that have a form of the model of their own.
    fn pairs(&self) -> Vec<(&Row, &Row)> {
        let of_hearth = || self.rows.iter().filter(|row| row.program == HEARTH);
        let is_foreign = |model: &str| of_hearth().all(|row| base(&row.model) != model);
        let pairs = of_hearth().flat_map(|own| self.rows.iter().map(move |other| (own, other)));
        pairs
            .filter(|(own, other)| {
                let is_origin = base(&own.model) == other.model;
                if other.program == HEARTH {
                    is_origin && own.model != other.model
                } else {
                    is_origin || is_foreign(&other.model)
                }
            })
            .collect()
    }
}

/// The model that was prepared.
fn base(model: &str) -> &str {
    model.strip_suffix(PREPARED).unwrap_or(model)
}

fn behind(depth: usize) -> String {
    if depth == 0 { String::new() } else { format!(" after {depth}") }
}

fn line(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

/// The line below the head: names to the left, numbers to the right.
fn rule(names: usize, numbers: usize) -> String {
    line(&[vec!["---".to_owned(); names], vec!["---:".to_owned(); numbers]].concat())
}

impl Row {
    fn median(&self, of: impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
        median(self.rounds.iter().filter_map(of).collect())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some((values[values.len() / 2 - 1] + upper) / 2.0) }
}

fn number(value: Option<f64>, scale: f64, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{:.decimals$}", value * scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> BenchPlan {
        BenchPlan { depths: vec![0], ..BenchPlan::default() }
    }

    fn add(table: &mut Table, program: &str, model: &str, round: usize, prefill: f64, decode: f64) {
        table.round(program, model, round).speeds.insert(0, Speed { prefill, decode });
    }

    #[test]
    fn a_peer_is_compared_on_the_same_model_round_by_round() {
        let mut table = Table::default();
        for (round, (hearth, peer)) in [(90.0, 45.0), (100.0, 40.0), (400.0, 100.0)].into_iter().enumerate() {
            add(&mut table, HEARTH, "other", round, 1.0, 1.0);
            add(&mut table, HEARTH, "q4", round, hearth, 60.0);
            add(&mut table, "peer", "q4", round, peer, 30.0);
        }
        let text = table.markdown(&plan());
        assert!(text.contains("| Hearth | q4 | 100.0 | 60.0 | – | – | – | – | – |"), "{text}");
        assert!(text.contains("| peer | q4 | 45.0 | 30.0 | – | – | – | – | – |"), "{text}");
        assert!(text.contains("| q4 | peer on q4 | 2.50 | 2.00 |"), "{text}");
        assert!(!text.contains("| other | peer on q4"), "another model is no comparison: {text}");
    }

    #[test]
    fn a_prepared_copy_is_compared_with_its_origin_and_a_form_of_its_own_with_all() {
        let mut table = Table::default();
        for (program, model, speed) in [
            (HEARTH, "hub-q4", 20.0),
            (HEARTH, "hub-q4-prepared", 60.0),
            ("plain loop", "hub-q4", 15.0),
            ("llama.cpp", "llama.gguf", 50.0),
        ] {
            add(&mut table, program, model, 0, speed, speed);
        }
        let text = table.markdown(&plan());
        for line in [
            "| hub-q4-prepared | Hearth on hub-q4 | 3.00 | 3.00 |",
            "| hub-q4-prepared | plain loop on hub-q4 | 4.00 | 4.00 |",
            "| hub-q4-prepared | llama.cpp on llama.gguf | 1.20 | 1.20 |",
            "| hub-q4 | plain loop on hub-q4 | 1.33 | 1.33 |",
            "| hub-q4 | llama.cpp on llama.gguf | 0.40 | 0.40 |",
        ] {
            assert!(text.contains(line), "{line} is missing: {text}");
        }
        assert!(!text.contains("| hub-q4 | Hearth on"), "{text}");
    }

    #[test]
    fn every_depth_has_its_columns_and_what_was_not_measured_is_no_zero() {
        let mut table = Table::default();
        let figures = table.round(HEARTH, "q4", 0);
        figures.speeds.insert(2048, Speed { prefill: 10.0, decode: 5.0 });
        figures.first_turn_seconds = Some(0.25);
        figures.peak_bytes = Some(700e6);
        figures.idle_cpu_share = Some(0.0);
        let text = table.markdown(&BenchPlan { depths: vec![0, 2048], ..BenchPlan::default() });
        assert!(text.starts_with("| Program | Model | Prefill | Decode | Prefill after 2048 |"), "{text}");
        assert!(text.contains("| Hearth | q4 | – | – | 10.0 | 5.0 | – | 250 | – | 700 | 0.0 |"), "{text}");
        assert!(!text.contains("beside"), "there is nothing to compare with: {text}");
    }
}
