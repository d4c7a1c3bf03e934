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
        assert!([3, 5, 10].contains(&cells), "{line}");
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
    parameters              854 k           426 k           426 k         −50.1 %
    MACs                    125 M          64.1 M          64.1 M         −48.9 %
    model file            3.45 MB         1.74 MB         1.74 MB         −49.7 %
    accuracy               93.7 %          41.2 %          92.6 %     −1.1 points
    latency               61.8 ms               –         45.1 ms           0.73×

    verified     masked = removed within 3.4e-7 (limit 1e-4) on 72 inputs
    rebuilt      52 of 54 layers; the others did not lower the held-out error
    measured in  ONNX Runtime 1.22.0, batch 32, 1 thread, median of 31 interleaved
                 runs
    not pruned   stage 1 residual (16.7 % of the MACs): its 19 nodes add into one
                 residual sum; pruning it was not asked for (--residual)
                 stage 2 residual (16.0 % of the MACs): its 20 nodes add into one
                 residual sum; pruning it was not asked for (--residual)
                 stage 3 residual (15.8 % of the MACs): its 20 nodes add into one
                 residual sum; pruning it was not asked for (--residual)
                 and 1 more
    warning      11 of 27 widths are not a multiple of 8: --multiple-of 8 may run
                 faster at the same MACs
    fallback     layer3.6.conv2: the Gram matrix needed damping 0.1 (3 steps up the
                 ladder); the refit did not lower the held-out error and was dropped
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
        (format::points(Change::new(0.937, 0.926)), "−1.1 points"),
        (format::points(Change::new(0.5, 0.5)), "±0 points"),
        (format::size_change(100, 50), "−50.0 %"),
        (format::size_change(0, 50), "–"),
        (format::clip("abcdefghij", 5), "ab…ij"),
    ];
    for (shown, expected) in cases {
        assert_eq!(shown, expected);
    }
}

/// Writes the page to look at it: `REGRAFT_REPORT_OUT=report.html cargo test -p regraft page_to_look_at`.
#[test]
fn page_to_look_at() {
    let html = fixture::resnet56().to_html();
    assert!(html.len() > 50_000, "{} bytes", html.len());
    if let Ok(path) = std::env::var("REGRAFT_REPORT_OUT") {
        std::fs::write(path, html).unwrap();
    }
}
