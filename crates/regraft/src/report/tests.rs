use super::*;

/// A name that tries to leave every place it could be put into.
const HOSTILE: &str =
    "<script>alert('x')</script>\"&`|\u{1b}[31m\u{202e}\n</style></title><img src=x onerror=y>";

fn hostile() -> Report {
    let mut report = fixture::resnet56();
    let evil = || HOSTILE.to_owned();
    report.regraft = evil();
    report.command = evil();
    report.recipe = Some(evil());
    report.model.name = evil();
    report.model.sha256 = Some(evil());
    report.output = Some(evil());
    report.data.as_mut().unwrap().description = evil();
    let budget = report.budget.as_mut().unwrap();
    budget.of = evil();
    budget.score = Some(evil());
    budget.tune = Some(evil());
    report.latency.as_mut().unwrap().runtime = evil();
    for layer in &mut report.layers {
        layer.node = evil();
        layer.op = evil();
        layer.group = Some(evil());
    }
    for group in &mut report.groups {
        group.name = evil();
    }
    for frozen in &mut report.frozen {
        frozen.group = evil();
        frozen.reason = evil();
    }
    for stage in &mut report.stages {
        stage.name = evil();
    }
    for class in &mut report.small.metrics.as_mut().unwrap().per_class {
        class.class = evil();
    }
    for block in &mut report.blocks {
        block.name = evil();
    }
    report.fallbacks[0].node = Some(evil());
    report.fallbacks[0].what = evil();
    report.warnings[0] = evil();
    report
}

#[test]
fn json_reads_back_equal() {
    let report = fixture::resnet56();
    let text = report.to_json().unwrap();
    assert_eq!(Report::from_json(&text).unwrap(), report);
    let line = hostile().to_json_line().unwrap();
    assert!(!line.contains('\n'));
    assert_eq!(Report::from_json(&line).unwrap(), hostile());
}

#[test]
fn json_has_the_promised_keys() {
    let value: serde_json::Value =
        serde_json::from_str(&fixture::resnet56().to_json().unwrap()).unwrap();
    for path in [
        "/schema_version",
        "/regraft",
        "/dense/params",
        "/dense/macs",
        "/dense/bytes",
        "/dense/metrics/accuracy",
        "/small/params",
        "/small/macs",
        "/small/bytes",
        "/small/metrics/accuracy",
        "/pruned/metrics/accuracy",
        "/verify/max_relative_difference",
        "/layers/0/node",
        "/layers/0/weights/before/histogram/counts",
        "/layers/0/weights/after/box/median",
        "/frozen/0/group",
        "/frozen/0/reason",
        "/latency/runtime",
        "/latency/dense_ms",
        "/latency/small_ms",
        "/stages/0/name",
        "/stages/0/seconds",
        "/peak_rss_bytes",
        "/fallbacks",
    ] {
        assert!(value.pointer(path).is_some(), "{path} is missing");
    }
}

#[test]
fn an_empty_report_is_written_in_every_form() {
    let report = Report::new();
    assert_eq!(
        Report::from_json(&report.to_json().unwrap()).unwrap(),
        report
    );
    assert!(report.to_html().contains("</html>"));
    assert!(report.to_markdown().contains("# "));
    assert!(
        report
            .to_terminal(&TerminalStyle::default(), None)
            .contains("parameters")
    );
}

#[test]
fn another_schema_is_refused_by_number() {
    for (text, expected) in [
        (
            "{\"schema_version\": 2}",
            "report has schema_version 2, this program reads 1",
        ),
        ("{}", "report has schema_version 0, this program reads 1"),
        ("[", "cannot read the report"),
    ] {
        assert_eq!(
            Report::from_json(text).unwrap_err().to_string(),
            expected,
            "{text}"
        );
    }
}

#[test]
fn hostile_names_do_not_leave_their_place_in_html() {
    let (html, plain) = (hostile().to_html(), fixture::resnet56().to_html());
    let tags = |text: &str, tag: &str| text.matches(tag).count();
    for tag in ["<script", "<img", "onerror=y>", "\u{1b}", "\u{202e}"] {
        assert_eq!(tags(&html, tag), 0, "{tag:?} got through");
    }
    for tag in [
        "<details",
        "</details>",
        "<table",
        "<svg",
        "</style>",
        "<title>",
    ] {
        // The tables of a hostile report have the same shape, so it opens the same elements.
        assert_eq!(tags(&html, tag), tags(&plain, tag), "{tag}");
    }
    assert!(html.contains("&lt;script&gt;"));
}

#[test]
fn html_loads_nothing_and_runs_nothing() {
    let html = fixture::resnet56().to_html();
    assert!(html.contains("default-src 'none'"));
    for word in ["http:", "https:", "<script", "<link", "@import", "url("] {
        assert!(!html.contains(word), "{word}");
    }
}

#[test]
fn html_opens_and_closes_the_same_elements() {
    let html = fixture::resnet56().to_html();
    for tag in [
        "section", "div", "table", "tr", "svg", "span", "details", "summary", "figure", "dl", "ul",
        "li", "g", "p",
    ] {
        let opened =
            html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn html_of_a_large_or_hostile_report_stays_under_the_limit() {
    let mut large = hostile();
    let long = "é<".repeat(20_000);
    large.command.clone_from(&long);
    large.recipe = Some(long.clone());
    large.warnings = vec![long.clone(); 500];
    let mut layer = large.layers[3].clone();
    layer.node.clone_from(&long);
    large.layers = vec![layer; 3000];
    let mut group = large.groups[0].clone();
    group.name.clone_from(&long);
    large.groups = vec![group; 1500];
    large.frozen = vec![
        FrozenGroup {
            group: long.clone(),
            reason: long.clone(),
            channels: Some(1),
            macs: Some(1)
        };
        800
    ];
    large.stages = vec![
        StageTime {
            name: long,
            seconds: 1.0
        };
        100
    ];
    for (title, report) in [
        ("resnet56", fixture::resnet56()),
        ("hostile", hostile()),
        ("large", large),
    ] {
        let html = report.to_html();
        assert!(
            html.len() <= MAX_HTML_BYTES,
            "{title}: {} bytes",
            html.len()
        );
        assert!(html.ends_with("</html>\n"), "{title}");
    }
}

#[test]
fn a_resnet56_is_drawn_in_full() {
    let html = fixture::resnet56().to_html();
    assert_eq!(html.matches("class=\"weights\"").count(), 56);
    assert!(!html.contains("are shown here"));
}

#[test]
fn markdown_keeps_hostile_names_inside_their_cell() {
    let text = hostile().to_markdown();
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
    // The command stands in an indented block, where nothing has a meaning.
    for line in text.lines().filter(|l| !l.starts_with("    ")) {
        assert!(!line.contains("<script"), "{line}");
    }
    for line in text
        .lines()
        .filter(|l| l.starts_with("| ") && l.contains("script"))
    {
        let cells = line.replace("\\|", "").matches('|').count();
        assert!([3, 5, 6, 9, 11].contains(&cells), "{line}");
    }
}

#[test]
fn terminal_steers_nothing_without_colour_and_fits() {
    let text = hostile().to_terminal(&TerminalStyle::default(), Some(HOSTILE));
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
    let text = fixture::resnet56().to_terminal(&TerminalStyle::default(), Some("report.html"));
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let style = TerminalStyle {
        width: 80,
        colour: true,
    };
    assert!(
        fixture::resnet56()
            .to_terminal(&style, None)
            .contains("\u{1b}[32mverified")
    );
}

#[test]
fn a_failed_check_is_loud() {
    let mut report = fixture::resnet56();
    report.verify.as_mut().unwrap().max_relative_difference = None;
    assert!(
        report
            .to_terminal(&TerminalStyle::default(), None)
            .contains("NOT VERIFIED")
    );
    assert!(report.to_html().contains("tile bad"));
    assert!(report.to_markdown().contains("**not verified**"));
}

#[test]
fn terminal_table() {
    let text = fixture::resnet56().to_terminal(&TerminalStyle::default(), Some("run/report.html"));
    insta::assert_snapshot!(text, @r"
    resnet56.onnx
                            dense          pruned         rebuilt          change
    parameters              854 k           426 k           426 k        −50.11 %
    MACs                    125 M          64.1 M          64.1 M        −48.88 %
    model file            3.45 MB         1.74 MB         1.74 MB        −49.66 %
    accuracy              93.70 %         41.20 %         92.60 %    −1.10 points
    latency               61.8 ms               –         45.1 ms           0.73×

    verified     masked = removed within 3.4e-7 (limit 1e-4) on 72 inputs
    rebuilt      52 of 54 layers; 2 did not lower the held-out error
    measured in  ONNX Runtime 1.22.0, batch 32, 1 thread, median of 31 interleaved
                 runs
    not pruned   stage 1 residual (16.73 % of the MACs): its 19 nodes add into one
                 residual sum; pruning it was not asked for (--residual)
                 stage 2 residual (16.02 % of the MACs): its 20 nodes add into one
                 residual sum; pruning it was not asked for (--residual)
                 stage 3 residual (15.78 % of the MACs): its 20 nodes add into one
                 residual sum; pruning it was not asked for (--residual)
                 and 1 more
    fallback     layer3.6.conv2: the Gram matrix needed damping 0.1 (3 steps up the
                 ladder); the refit did not lower the held-out error and was dropped
    warning      11 of 27 widths are not a multiple of 8: --multiple-of 8 may run
                 faster at the same MACs
    took         3 min 20 s, peak memory 1.32 GB
    written      small.onnx
    report       run/report.html
    ");
}

#[test]
fn numbers_for_people() {
    let cases = [
        (format::si(0), "0"),
        (format::si(999), "999"),
        (format::si(999_700), "1.00 M"),
        (format::si(853_018), "853 k"),
        (format::si(125_485_706), "125 M"),
        (format::bytes(12), "12 B"),
        (format::bytes(3_442_000), "3.44 MB"),
        (format::seconds(0.42), "420 ms"),
        (format::seconds(185.2), "3 min 05 s"),
        (format::scientific(0.0), "0"),
        (format::scientific(3.14e-7), "3.1e-7"),
        (format::scientific(0.012_345), "0.0123"),
        (format::scientific(f64::NAN), "not finite"),
        (format::milliseconds(0.081_234), "0.0812 ms"),
        (format::milliseconds(0.4383), "0.438 ms"),
        (format::milliseconds(39.574), "39.6 ms"),
        (format::part(640.0 / 40e6), "< 0.01 %"),
        (format::part(0.1234), "12.34 %"),
        (
            format::si_change(Change::new(2_360_000, 1_180_000)),
            "2.36 → 1.18 M",
        ),
        (
            format::si_change(Change::new(1_180_000, 590_000)),
            "1.18 M → 590 k",
        ),
        (format::si_change(Change::new(640, 560)), "640 → 560"),
        (format::points(Change::new(0.9933, 0.9916)), "−0.17 points"),
        (format::points(Change::new(0.5, 0.5)), "±0 points"),
        (format::size_change(100, 50), "−50.00 %"),
        (format::size_change(0, 50), "–"),
        (format::clip("abcdefghij", 5), "ab…ij"),
    ];
    for (shown, expected) in cases {
        assert_eq!(shown, expected);
    }
}

#[test]
fn the_end_of_a_long_name_stays_whole() {
    for (name, expected) in [
        ("/conv1/Conv", ("", "/conv1/Conv")),
        (
            "/layer1/layer1.0/conv1/Conv",
            ("/layer1", "/layer1.0/conv1/Conv"),
        ),
        (
            "/encoder/layers.11/attention/query/MatMul",
            ("/encoder/layers.11/attention", "/query/MatMul"),
        ),
        (
            "abcdefghijklmnopqrstuvwxyz",
            ("abcde", "fghijklmnopqrstuvwxyz"),
        ),
        ("é".repeat(30).as_str(), ("ééééééééé", &"é".repeat(21))),
    ] {
        assert_eq!(format::split_name(name), expected);
    }
    let mut report = fixture::resnet56();
    report.groups[0].name = "/layer1/layer1.0/conv1/Conv".to_owned();
    let html = report.to_html();
    assert!(html.contains("<i>/layer1</i><span>/layer1.0/conv1/Conv</span>"));
    assert!(html.contains("title=\"/layer1/layer1.0/conv1/Conv"));
}

#[test]
fn code_stands_between_two_backticks() {
    for (text, expected) in [
        ("plain", vec![(false, "plain")]),
        (
            "not used: `a.png`, `b`",
            vec![
                (false, "not used: "),
                (true, "a.png"),
                (false, ", "),
                (true, "b"),
                (false, ""),
            ],
        ),
        ("one ` alone", vec![(false, "one ` alone")]),
        ("an empty `` pair", vec![(false, "an empty `` pair")]),
    ] {
        assert_eq!(format::code_spans(text), expected);
    }
    let mut report = fixture::resnet56();
    report.warnings = vec!["not used: `<b>.png` and `a.png`".to_owned()];
    let html = report.to_html();
    assert!(html.contains("not used: <code>&lt;b&gt;.png</code> and <code>a.png</code>"));
    let text = report.to_markdown();
    assert!(text.contains("not used: \\`&lt;b&gt;.png\\` and `a.png`"));
}

#[test]
fn a_run_that_removed_nothing_is_not_called_unverified() {
    let mut report = fixture::resnet56();
    report.verify = None;
    let terminal = report.to_terminal(&TerminalStyle::default(), None);
    for text in [report.to_html(), report.to_markdown(), terminal] {
        assert!(!text.to_lowercase().contains("verified"));
        assert!(!text.contains("tile bad"));
    }
}

#[test]
fn what_matters_before_shipping_comes_first() {
    let mut report = fixture::resnet56();
    let fall = "accuracy fell by 1.10 points, from 93.70 % to 92.60 %";
    for text in [report.to_html(), report.to_markdown()] {
        let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what}"));
        assert!(place(fall) < place("the Gram matrix needed"));
        assert!(place("the Gram matrix needed") < place("11 of 27 widths"));
    }
    report.small.metrics.as_mut().unwrap().accuracy = Some(0.93);
    assert!(!report.to_html().contains("accuracy fell"));
    for metrics in [&mut report.dense.metrics, &mut report.small.metrics] {
        metrics.as_mut().unwrap().accuracy = None;
    }
    let unlabelled = "agrees with the dense one on 95.10 % of 1000 samples";
    assert!(report.to_html().contains(unlabelled));
    assert!(report.to_markdown().contains(unlabelled));
}

#[test]
fn a_layer_with_nothing_to_mend_is_not_a_dropped_refit() {
    let mut report = fixture::resnet56();
    let dropped = |report: &Report| {
        let wanted = |l: &&LayerFigures| format::refit(l) == format::Refit::Dropped;
        report.layers.iter().filter(wanted).count()
    };
    let others = dropped(&report);
    let idle = report.layers.iter_mut().find(|l| l.kept == Some(true));
    let idle = idle.unwrap();
    idle.error_before_refit = Some(2.7e-8);
    idle.error_after_refit = Some(2.6e-8);
    idle.held_out_before = Some(0.0);
    idle.held_out_after = Some(0.0);
    idle.kept = Some(false);
    assert_eq!(dropped(&report), others);
    let terminal = report.to_terminal(&TerminalStyle::default(), None);
    assert!(terminal.contains("51 of 53 layers; 2 did not lower the held-out error; 1 had"));
    assert!(report.to_markdown().contains("nothing to mend"));
    let html = report.to_html();
    assert!(html.contains("2.7e-8, nothing to mend</title>"));
    // It does not stretch the axis either.
    assert!(html.contains(">0.001</text>"));
    assert!(!html.contains(">1e-5</text>"));
}

#[test]
fn an_error_below_the_scale_is_marked() {
    let mut report = fixture::resnet56();
    assert!(!report.to_html().contains("smaller than the scale shows"));
    let layer = report.layers.iter_mut().find(|l| l.kept == Some(true));
    layer.unwrap().error_after_refit = Some(1e-7);
    let html = report.to_html();
    assert!(html.contains("smaller than the scale shows"));
    assert!(html.contains("<path class=\"after\""));
}

#[test]
fn markdown_lists_at_most_twenty_rows_of_each_kind() {
    let mut report = fixture::resnet56();
    report.blocks = vec![report.blocks[0].clone(); 23];
    let text = report.to_markdown();
    for line in [
        "## Tuned blocks",
        "| layer1.8.out | 200 | 0.0410 | 0.0190 | kept |",
        "and 3 more in report.json.",
        "## Sensitivity",
        "and 7 more in report.json.",
        "## Quality by class\n",
    ] {
        assert!(text.contains(line), "{line}");
    }
    let classes = text.lines().filter(|l| l.starts_with("| airplane |"));
    assert_eq!(classes.count(), 1);
}

#[test]
fn plans_with_whole_blocks_are_shown_and_what_was_taken_is_marked() {
    let mut report = fixture::resnet56();
    assert!(!report.to_html().contains("Residual blocks gone"));
    let trial = |(removed_blocks, error)| PlanTrial {
        removed_blocks,
        ratio: 0.6,
        error,
    };
    let block = |(block, error): (&str, f64)| BlockRemoval {
        block: block.to_owned(),
        error,
    };
    report.depth = Some(DepthFigures {
        blocks: [("first", 0.01), (HOSTILE, f64::NAN)].map(block).to_vec(),
        trials: [(9, 0.08), (5, 0.05), (6, f64::NAN)].map(trial).to_vec(),
    });
    report.removed_blocks = vec!["first".to_owned()];
    let html = report.to_html();
    assert!(
        html.contains("<tr><th>5, kept</th><td>0.600</td>"),
        "{html}"
    );
    assert!(html.contains("<tr><th>first, gone</th>"), "{html}");
    assert_eq!(html.matches(", kept</th>").count(), 1);
    assert!(!html.contains("NaN") && !html.contains("<script>alert"));
}

/// Writes the page to look at it: `REGRAFT_REPORT_OUT=report.html cargo test -p regraft page_to_look_at`,
/// of another run with `REGRAFT_REPORT_IN=report.json`.
#[test]
fn page_to_look_at() {
    let mut report = fixture::resnet56();
    let html = report.to_html();
    assert!(html.len() > 50_000, "{} bytes", html.len());
    if let Ok(path) = std::env::var("REGRAFT_REPORT_IN") {
        report = Report::from_json(&std::fs::read_to_string(path).unwrap()).unwrap();
    }
    if let Ok(path) = std::env::var("REGRAFT_REPORT_OUT") {
        std::fs::write(&path, report.to_html()).unwrap();
        std::fs::write(format!("{path}.md"), report.to_markdown()).unwrap();
        let terminal = report.to_terminal(&TerminalStyle::default(), Some(&path));
        std::fs::write(format!("{path}.txt"), terminal).unwrap();
    }
}
