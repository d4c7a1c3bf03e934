use super::*;

/// Returns a length-delimited field.
fn sub(number: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = body.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(body);
    out
}

/// Returns a model whose graph holds `levels` subgraphs, one in the other.
fn nested(levels: usize) -> Vec<u8> {
    let mut graph = Vec::new();
    for _ in 0..levels {
        graph = sub(1, &sub(5, &sub(6, &graph)));
    }
    sub(7, &graph)
}

#[test]
fn refuses_broken_wires_with_their_place() {
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "field overruns the file",
            vec![0x3a, 0x7f, 0x00],
            "has only 1 left",
        ),
        ("cut in a length", vec![0x3a], "cut off"),
        ("cut in a number", vec![0x08, 0xff], "cut off"),
        (
            "number of 11 bytes",
            [vec![0x08], vec![0xff; 11]].concat(),
            "64 bits",
        ),
        ("group", vec![0x3b, 0x3c], "wire type 3"),
        ("wire type 7", vec![0x0f], "wire type 7"),
        ("field 0", vec![0x02, 0x00], "field number 0"),
        (
            "graph as a number",
            vec![0x38, 0x01],
            "cannot have wire type 0",
        ),
        (
            "trailing bytes",
            [sub(7, &[]), vec![0, 0, 0]].concat(),
            "field number 0",
        ),
        (
            "child overruns its parent",
            sub(7, &[0x0a, 0x7f]),
            "`model.graph`",
        ),
        ("half a float", sub(7, &sub(5, &sub(4, &[0; 6]))), "4 bytes"),
        ("nesting", nested(40), "levels of nesting"),
        ("name not UTF-8", sub(7, &sub(2, b"\xff")), "not UTF-8"),
        ("name with NUL", sub(7, &sub(2, b"a\0")), "U+0000"),
        (
            "name with escape",
            sub(7, &sub(1, &sub(3, b"\x1b[31m"))),
            "U+001B",
        ),
        (
            "long name",
            sub(7, &sub(2, &vec![b'a'; 65_537])),
            "65537 bytes",
        ),
        ("many axes", sub(7, &sub(5, &sub(1, &[1; 65]))), "axes"),
    ];
    let mut failed = Vec::new();
    for (label, bytes, want) in cases {
        match scan(&bytes, &Limits::default()) {
            Err(error) if error.to_string().contains(want) => {}
            other => failed.push(format!("{label}: wanted `{want}`, got {other:?}")),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn counts_are_capped() {
    let nodes = sub(7, &sub(1, &[]).repeat(11));
    let tensors = sub(7, &sub(5, &[]).repeat(11));
    let attributes = sub(7, &sub(1, &sub(5, &[]).repeat(11)));
    let limits = Limits {
        max_nodes: 10,
        max_initializers: 10,
        max_attributes: 10,
        ..Limits::default()
    };
    for (bytes, what) in [
        (nodes, "nodes"),
        (tensors, "tensors"),
        (attributes, "attributes"),
    ] {
        let error = scan(&bytes, &limits).expect_err(what);
        assert!(error.to_string().contains(&format!("11 {what}")), "{error}");
    }
}

#[test]
fn a_small_file_cannot_ask_for_much_memory() {
    // Two bytes an entry, hundreds once parsed.
    let bytes = sub(14, &[]).repeat(10_000);
    let limits = Limits {
        max_total_bytes: 1 << 20,
        ..Limits::default()
    };
    let error = scan(&bytes, &limits).expect_err("must be refused");
    assert!(error.to_string().contains("bytes in memory"), "{error}");
}

#[test]
fn accepts_what_a_model_may_hold() {
    for bytes in [
        nested(30),
        sub(7, &sub(2, "größe/π".as_bytes())),
        sub(6, b"two\nlines"),
        sub(15, b"unknown field"),
    ] {
        assert!(scan(&bytes, &Limits::default()).is_ok());
    }
}
