//! External data: what is read, and what is refused.

use std::path::Path;

use super::*;
use crate::proto::onnx::{StringStringEntryProto, TensorProto};
use crate::{Limits, read, read_bytes, write_bytes};

fn external(entries: &[(&str, &str)]) -> ModelProto {
    let mut m = model(17, graph(vec![node("Add", &["x", "w"], &["y"], vec![])]));
    m.graph
        .mut_or_insert_default()
        .initializer
        .push(TensorProto {
            external_data: entries
                .iter()
                .map(|(k, v)| StringStringEntryProto {
                    key: text(k),
                    value: text(v),
                    ..Default::default()
                })
                .collect(),
            data_location: Some(1),
            raw_data: None,
            ..floats("w", &[2], &[])
        });
    m
}

/// Makes a folder with a model's data, and another one beside it that must not be reached.
fn folder() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("model");
    std::fs::create_dir_all(dir.join("sub")).expect("a folder");
    std::fs::create_dir_all(root.path().join("secret")).expect("a folder");
    let data: Vec<u8> = [9.0f32, 1.0, 2.0]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    for path in ["model/w.bin", "model/sub/w.bin", "secret/w.bin"] {
        std::fs::write(root.path().join(path), &data).expect("a file");
    }
    root
}

#[test]
fn data_beside_the_model_is_read_and_embedded_on_writing() {
    let root = folder();
    let dir = root.path().join("model");
    for location in ["w.bin", "sub/w.bin", "./w.bin"] {
        let m = external(&[("location", location), ("offset", "4"), ("length", "8")]);
        let path = dir.join("m.onnx");
        std::fs::write(&path, bytes(&m)).expect("a file");
        let graph = read(&path, &Limits::default()).expect("readable");
        let id = graph.find_value("w").expect("there");
        assert_eq!(
            graph.tensor(id).and_then(|t| t.as_f32()),
            Some(&[1.0f32, 2.0][..]),
            "{location}"
        );
        let whole = read_bytes(
            &write_bytes(&graph).expect("writable"),
            None,
            &Limits::default(),
        )
        .expect("readable");
        assert_eq!(whole.tensor(id), graph.tensor(id));
    }
}

#[test]
fn a_checksum_is_checked() {
    let root = folder();
    let dir = root.path().join("model");
    let entries = |sum| {
        bytes(&external(&[
            ("location", "w.bin"),
            ("offset", "4"),
            ("checksum", sum),
        ]))
    };
    // sha1sum of the twelve bytes.
    let right = "717c220f394aae629f15c6cf976417856b51efff";
    assert!(read_bytes(&entries(right), Some(&dir), &Limits::default()).is_ok());
    let error = read_bytes(
        &entries(&right.replace('7', "8")),
        Some(&dir),
        &Limits::default(),
    )
    .expect_err("refused");
    assert!(
        error.to_string().contains("the SHA-1 of `w.bin` is 717c"),
        "{error}"
    );
}

fn refuse(dir: Option<&Path>, entries: &[(&str, &str)], want: &str, failed: &mut Vec<String>) {
    match read_bytes(&bytes(&external(entries)), dir, &Limits::default()) {
        Err(e) if e.to_string().contains(want) && e.to_string().contains("`w`") => {}
        Err(e) => failed.push(format!("{entries:?}: wanted `{want}`, got `{e}`")),
        Ok(_) => failed.push(format!("{entries:?}: was read")),
    }
}

#[test]
fn what_leaves_the_folder_or_does_not_fit_is_refused() {
    let root = folder();
    let dir = root.path().join("model");
    let absolute = root.path().join("secret/w.bin").display().to_string();
    let mut failed = Vec::new();
    let cases: &[(&str, &str)] = &[
        ("../secret/w.bin", "leaves"),
        ("sub/../../secret/w.bin", "leaves"),
        (&absolute, "absolute"),
        ("C:w.bin", "drive"),
        ("file:w.bin", "URL"),
        ("..\\secret\\w.bin", "backslash"),
        ("//host/share", "absolute"),
        ("sub//w.bin", "empty part"),
        ("", "empty"),
        (".", "names no file"),
        ("*/_ORT_MEM_ADDR_/*", "memory of another program"),
        ("sub", "not a plain file"),
        ("gone.bin", "there is no file"),
    ];
    for (location, want) in cases {
        refuse(Some(&dir), &[("location", location)], want, &mut failed);
    }
    let keys: &[(&[(&str, &str)], &str)] = &[
        (&[("offset", "-4")], "`offset` is `-4`"),
        (&[("offset", "+4")], "`offset` is `+4`"),
        (&[("length", "ten")], "`length` is `ten`"),
        (&[("offset", "18446744073709551615")], "overflows"),
        (&[("offset", "8")], "ends at byte 16"),
        (
            &[("length", "12")],
            "`length` is 12, but type and shape need 8",
        ),
        (&[("offset", "0"), ("offset", "4")], "appears twice"),
        (&[("__class__", "x")], "`__class__`"),
    ];
    for (extra, want) in keys {
        let entries = [&[("location", "w.bin")], *extra].concat();
        refuse(Some(&dir), &entries, want, &mut failed);
    }
    refuse(Some(&dir), &[], "no `location`", &mut failed);
    refuse(None, &[("location", "w.bin")], "no folder", &mut failed);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[cfg(unix)]
#[test]
fn links_are_refused() {
    use std::os::unix::fs::symlink;
    let root = folder();
    let dir = root.path().join("model");
    symlink(root.path().join("secret/w.bin"), dir.join("link.bin")).expect("a link");
    symlink(root.path().join("secret"), dir.join("linked")).expect("a link");
    std::fs::hard_link(root.path().join("secret/w.bin"), dir.join("hard.bin")).expect("a link");
    let mut failed = Vec::new();
    refuse(
        Some(&dir),
        &[("location", "link.bin")],
        "symbolic link",
        &mut failed,
    );
    refuse(
        Some(&dir),
        &[("location", "linked/w.bin")],
        "symbolic link",
        &mut failed,
    );
    refuse(
        Some(&dir),
        &[("location", "hard.bin")],
        "2 hard links",
        &mut failed,
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let allowed = Limits {
        allow_hardlinks: true,
        ..Limits::default()
    };
    let m = external(&[("location", "hard.bin"), ("length", "8")]);
    assert!(read_bytes(&bytes(&m), Some(&dir), &allowed).is_ok());
}

#[test]
fn only_initializers_of_the_main_graph_may_be_external() {
    let tensor = external(&[("location", "w.bin")])
        .graph
        .unwrap_or_default()
        .initializer
        .remove(0);
    let inner = GraphProto {
        initializer: vec![tensor.clone()],
        ..Default::default()
    };
    let mut in_constant = model(
        17,
        graph(vec![node(
            "Constant",
            &[],
            &["y"],
            vec![tensor_attribute("value", tensor)],
        )]),
    );
    let in_subgraph = model(
        17,
        graph(vec![node(
            "If",
            &["x"],
            &["y"],
            vec![graph_attribute("then_branch", inner.clone())],
        )]),
    );
    let mut in_training = model(17, graph(vec![node("Relu", &["x"], &["y"], vec![])]));
    in_training
        .training_info
        .push(crate::proto::onnx::TrainingInfoProto {
            algorithm: MessageField::some(inner),
            ..Default::default()
        });
    let nodes = in_constant.graph.mut_or_insert_default().node.clone();
    let mut in_function = model(17, graph(vec![node("Relu", &["x"], &["y"], vec![])]));
    in_function
        .functions
        .push(crate::proto::onnx::FunctionProto {
            name: text("f"),
            node: nodes,
            ..Default::default()
        });
    for m in [in_constant, in_subgraph, in_training, in_function] {
        let error = read_bytes(&bytes(&m), None, &Limits::default()).expect_err("must be refused");
        assert!(
            error
                .to_string()
                .contains("only initializers of the main graph"),
            "{error}"
        );
    }
}
