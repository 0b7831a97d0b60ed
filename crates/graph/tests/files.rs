//! Weights in other files: one plain name, a real file of the folder, bytes that it has.

mod support;

use std::fs;

use graph::Error;
use graph::preflight::{Problem, is_plain_name};
use graph::proto::{
    AttributeProto, FunctionProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, TrainingInfoProto,
    attribute_type, data_type,
};
use support::{
    Folder, constant, graph_of, model, node, outside, refused, subgraph, text, value, whole, with, zeros,
};

/// The places where a tensor may hide.
const PLACES: [&str; 13] = [
    "initializer",
    "constant",
    "list of tensors",
    "sparse values",
    "sparse indices",
    "sparse attribute",
    "branch",
    "loop",
    "scan",
    "function",
    "branch of a function",
    "value that a function has of itself",
    "training",
];

/// A node `If` with the initializer `w` in both of its branches.
fn choice(w: TensorProto) -> NodeProto {
    let mut branch = graph_of(vec![node("Identity", &["w"], &["inner"])], vec![w]);
    branch.input.clear();
    let branches = with(node("If", &["condition"], &["y"]), subgraph("then_branch", branch.clone()));
    with(branches, subgraph("else_branch", branch))
}

/// Gives `model` a function of these nodes, which read `given` and make `made`, and a call of it.
fn call(model: &mut ModelProto, nodes: Vec<NodeProto>, held: Vec<AttributeProto>) {
    model.functions = vec![FunctionProto {
        name: text("F"),
        domain: text("local"),
        input: vec!["given".to_owned()],
        output: vec!["made".to_owned()],
        attribute_proto: held,
        node: nodes,
        ..Default::default()
    }];
    let call = NodeProto { domain: text("local"), ..node("F", &["x"], &["c"]) };
    model.graph.as_mut().expect("it has a graph").node = vec![call, node("Add", &["x", "c"], &["y"])];
}

/// A model that has `tensor` at `place`.
fn hidden(place: &str, tensor: TensorProto) -> ModelProto {
    let sparse = |values, indices| SparseTensorProto {
        values: Some(values),
        indices: Some(indices),
        dims: vec![4],
        ..Default::default()
    };
    let add = |name: &str| node("Add", &["x", name], &["y"]);
    let attribute = |name: &str| AttributeProto { name: text(name), ..Default::default() };
    let holder = |attribute: AttributeProto| vec![with(node("Constant", &[], &["c"]), attribute), add("c")];
    let mut named = tensor.clone();
    named.name = text("w");
    let mut whole_model = model(graph_of(vec![add("x")], vec![]));
    let graph = whole_model.graph.as_mut().expect("it has a graph");
    match place {
        "initializer" => {
            graph.initializer = vec![named];
            graph.node = vec![add("w")];
        }
        "constant" => graph.node = vec![constant("c", tensor), add("c")],
        "list of tensors" => {
            graph.node = holder(AttributeProto {
                r#type: Some(attribute_type::TENSORS),
                tensors: vec![tensor],
                ..attribute("values")
            });
        }
        "sparse values" => graph.sparse_initializer = vec![sparse(named, whole("", &[4], &[0, 1, 2, 3]))],
        "sparse indices" => graph.sparse_initializer = vec![sparse(zeros("w", &[4]), tensor)],
        "sparse attribute" => {
            graph.node = holder(AttributeProto {
                r#type: Some(attribute_type::SPARSE_TENSOR),
                sparse_tensor: Some(Box::new(sparse(tensor, whole("", &[4], &[0, 1, 2, 3])))),
                ..attribute("sparse_value")
            });
        }
        "branch" => {
            graph.input.push(value("condition", data_type::BOOL, &[]));
            graph.node = vec![choice(named)];
        }
        "loop" | "scan" => {
            let is_loop = place == "loop";
            let mut body = graph_of(vec![node("Identity", &["w"], &["inner"])], vec![named]);
            body.input.clear();
            if is_loop {
                let state = [("step", data_type::INT64), ("before", data_type::BOOL)];
                body.input = state.map(|(name, element)| value(name, element, &[])).to_vec();
                body.node.push(node("Identity", &["before"], &["after"]));
                body.output.insert(0, value("after", data_type::BOOL, &[]));
            }
            graph.input.push(value("steps", data_type::INT64, &[]));
            let (operator, inputs): (_, &[&str]) = if is_loop { ("Loop", &["steps"]) } else { ("Scan", &[]) };
            graph.node = vec![with(node(operator, inputs, &["y"]), subgraph("body", body))];
        }
        "function" => call(&mut whole_model, vec![constant("made", tensor)], vec![]),
        "branch of a function" => {
            let mut choice = choice(named);
            choice.output = vec!["made".to_owned()];
            call(&mut whole_model, vec![node("IsNaN", &["given"], &["condition"]), choice], vec![]);
        }
        "value that a function has of itself" => {
            let held = support::tensor("held", tensor);
            call(&mut whole_model, vec![node("Neg", &["given"], &["made"])], vec![held]);
        }
        "training" => {
            let initialization = Some(graph_of(vec![node("Identity", &["w"], &["v"])], vec![named]));
            whole_model.training_info = vec![TrainingInfoProto { initialization, ..Default::default() }];
        }
        other => panic!("there is no place {other}"),
    }
    whole_model
}

/// A tensor of which `location` has the weights.
fn lies_in(place: &str, location: &str) -> TensorProto {
    let mut tensor = outside("w", &[("location", location), ("offset", "0"), ("length", "16")]);
    if place == "sparse indices" {
        tensor.data_type = Some(data_type::INT64);
        tensor.external_data[2].value = text("32");
    }
    tensor
}

#[test]
fn weights_beside_the_graph_pass_from_every_place_but_a_training_program() {
    for place in PLACES {
        let folder = Folder::new(&hidden(place, lies_in(place, "weights.bin")));
        fs::write(folder.path("weights.bin"), [0; 32]).expect("written");
        match folder.check() {
            Ok(report) => assert_eq!(report.files, ["weights.bin"], "{place}"),
            Err(Error::Refused { findings, .. }) => {
                assert_eq!(findings.len(), 1, "{place}: {findings:?}");
                assert_eq!(findings[0].problem, Problem::Training, "{place}");
            }
            Err(other) => panic!("{place}: {other}"),
        }
    }
}

#[test]
fn a_location_that_leads_elsewhere_is_refused_at_every_place() {
    let long = "a".repeat(64 << 10);
    let locations = [
        "../x",
        "..",
        ".",
        "./x",
        "a/../../x",
        "a/x",
        "a\\x",
        "/etc/passwd",
        "C:\\x",
        "C:x",
        "\\\\host\\share\\x",
        "//host/share/x",
        "x:stream",
        "NUL",
        "nul.bin",
        "COM1.data",
        "lpt9",
        "",
        "x\0y",
        "x\n",
        "x ",
        "x.",
        "*/_ORT_MEM_ADDR_/*",
        "file:///etc/passwd",
        "~",
        "%TEMP%",
        "$HOME",
        "café",
        long.as_str(),
    ];
    for place in PLACES {
        for location in locations {
            let findings = refused(&Folder::new(&hidden(place, lies_in(place, location))));
            let found = findings.iter().find(|found| matches!(found.problem, Problem::NotAFileName { .. }));
            let found = found.unwrap_or_else(|| panic!("{place}, {location:?}: {findings:?}"));
            let shown = found.to_string();
            assert!(shown.len() < 400 && !shown.contains(['\0', '\n']), "{place}: {shown:?}");
        }
    }
}

#[test]
fn what_is_no_file_of_its_own_is_refused_at_every_place() {
    let outside = tempfile::tempdir().expect("a folder");
    fs::write(outside.path().join("secret"), [7; 32]).expect("written");
    for place in PLACES {
        let check = |prepare: &dyn Fn(&Folder), expected: &dyn Fn(&Problem) -> bool| {
            let folder = Folder::new(&hidden(place, lies_in(place, "weights.bin")));
            prepare(&folder);
            let findings = refused(&folder);
            assert!(findings.iter().any(|found| expected(&found.problem)), "{place}: {findings:?}");
        };
        let unreal = |problem: &Problem| matches!(problem, Problem::NotARealFile { .. });
        check(&|_| {}, &|problem| *problem == Problem::FileMissing { file: "weights.bin".to_owned() });
        check(&|folder| fs::create_dir(folder.path("weights.bin")).expect("made"), &unreal);
        #[cfg(unix)]
        {
            let secret = outside.path().join("secret");
            let link = |folder: &Folder| {
                std::os::unix::fs::symlink(&secret, folder.path("weights.bin")).expect("linked");
            };
            check(&link, &unreal);
            let name = |folder: &Folder| {
                fs::hard_link(&secret, folder.path("weights.bin")).expect("named");
            };
            check(&name, &unreal);
            let pipe = |folder: &Folder| {
                let made = std::process::Command::new("mkfifo").arg(folder.path("weights.bin")).status();
                assert!(made.expect("mkfifo runs").success());
            };
            check(&pipe, &unreal);
        }
    }
}

#[test]
#[cfg(unix)]
fn a_graph_that_is_no_file_of_its_own_is_refused() {
    let folder = Folder::new(&model(graph_of(vec![node("Identity", &["x"], &["y"])], vec![])));
    folder.check().expect("it passes by its own name");
    let check = |name: &str| {
        let path = folder.path(name);
        graph::preflight::check(&path, &graph::Limits::default()).expect_err("it is no file of its own")
    };
    std::os::unix::fs::symlink(folder.path("model.onnx"), folder.path("link.onnx")).expect("linked");
    assert!(matches!(check("link.onnx"), Error::NotARealFile { what: "a link", .. }));
    fs::create_dir(folder.path("folder.onnx")).expect("made");
    assert!(matches!(check("folder.onnx"), Error::NotARealFile { what: "a folder", .. }));
    let made = std::process::Command::new("mkfifo").arg(folder.path("pipe.onnx")).status();
    assert!(made.expect("mkfifo runs").success());
    assert!(matches!(check("pipe.onnx"), Error::NotARealFile { .. }));
    assert!(matches!(check("nothing.onnx"), Error::File { doing: "open", .. }));
    fs::hard_link(folder.path("model.onnx"), folder.path("second.onnx")).expect("named");
    assert!(matches!(check("model.onnx"), Error::NotARealFile { .. }));
}

#[test]
#[cfg(unix)]
fn files_with_several_names_pass_where_somebody_knows_what_is_in_them() {
    let folder = Folder::new(&hidden("initializer", lies_in("initializer", "weights.bin")));
    fs::write(folder.path("weights.bin"), [7; 32]).expect("written");
    folder.check().expect("it passes with files of its own");
    fs::hard_link(folder.path("weights.bin"), folder.path("other.bin")).expect("named");
    fs::hard_link(folder.path("model.onnx"), folder.path("other.onnx")).expect("named");
    let path = folder.path("model.onnx");
    let error = graph::preflight::check(&path, &graph::Limits::default()).expect_err("of whoever they are");
    assert!(error.to_string().contains("import the model as a copy"), "{error}");
    let known = graph::Limits { other_names: true, ..graph::Limits::default() };
    graph::preflight::check(&path, &known).expect("it passes");
    let graph = graph::Graph::open(&path, &known).expect("it is read");
    let written = folder.path("written.onnx");
    graph.write(&written, graph::Weights::Embed).expect("its weights are read too");
    fs::remove_file(folder.path("weights.bin")).expect("removed");
    std::os::unix::fs::symlink(folder.path("other.bin"), folder.path("weights.bin")).expect("linked");
    graph::preflight::check(&path, &known).expect_err("a link is none of its names");
}

#[test]
fn offsets_and_lengths_must_lie_in_the_file() {
    let check = |entries: &[(&str, &str)], expected: &dyn Fn(&Problem) -> bool| {
        let mut all = vec![("location", "weights.bin")];
        all.extend_from_slice(entries);
        let folder = Folder::new(&hidden("initializer", outside("w", &all)));
        fs::write(folder.path("weights.bin"), [0; 20]).expect("written");
        let findings = refused(&folder);
        assert!(findings.iter().any(|found| expected(&found.problem)), "{entries:?}: {findings:?}");
    };
    let past = |problem: &Problem| matches!(problem, Problem::PastTheEnd { size: 20, .. });
    let entry = |problem: &Problem| matches!(problem, Problem::ExternalEntry { .. });
    check(&[("offset", "5")], &past);
    check(&[("offset", "20")], &past);
    check(&[("offset", "9223372036854775807")], &past);
    check(&[("offset", "9223372036854775800"), ("length", "16")], &past);
    for number in
        ["18446744073709551615", "-1", "+4", " 4", "4 ", "0x4", "1e1", "4.0", "", "९", "99999999999999999999"]
    {
        check(&[("offset", number)], &entry);
        check(&[("length", number)], &entry);
    }
    let length = |problem: &Problem| matches!(problem, Problem::DataLength { expected: 16, .. });
    check(&[("length", "15")], &length);
    check(&[("length", "17")], &length);
    check(&[("length", "0")], &length);
    check(&[("offset", "1"), ("offset", "1")], &entry);
    check(&[("location", "weights.bin")], &entry);
    check(&[("prepacked_0", "x")], &entry);
    check(&[("basepath", "/etc")], &entry);
    check(&[("Offset", "0")], &entry);
}

#[test]
fn unaligned_places_and_missing_lengths_are_fine() {
    for entries in [&[("location", "weights.bin"), ("offset", "3")][..], &[("location", "weights.bin")]] {
        let folder = Folder::new(&hidden("initializer", outside("w", entries)));
        fs::write(folder.path("weights.bin"), [0; 19]).expect("written");
        folder.check().expect("the bytes are there");
    }
}

#[test]
fn weights_in_two_places_or_in_none_are_refused() {
    let check = |tensor: TensorProto, expected: &dyn Fn(&Problem) -> bool| {
        let folder = Folder::new(&hidden("initializer", tensor));
        fs::write(folder.path("weights.bin"), [0; 64]).expect("written");
        let findings = refused(&folder);
        assert!(findings.iter().any(|found| expected(&found.problem)), "{findings:?}");
    };
    let there = || outside("w", &[("location", "weights.bin")]);
    let twice = |problem: &Problem| *problem == Problem::DataTwice;
    check(outside("w", &[]), &|problem| *problem == Problem::NoLocation);
    check(outside("w", &[("offset", "0")]), &|problem| *problem == Problem::NoLocation);
    check(TensorProto { raw_data: Some(vec![0; 16]), ..there() }, &twice);
    check(TensorProto { float_data: vec![0.0; 4], ..there() }, &twice);
    check(TensorProto { data_location: Some(0), ..there() }, &twice);
    check(TensorProto { data_location: None, ..there() }, &twice);
    check(TensorProto { data_location: Some(2), ..there() }, &|problem| {
        matches!(problem, Problem::ExternalEntry { .. })
    });
    check(TensorProto { data_type: Some(data_type::STRING), ..there() }, &|problem| {
        matches!(problem, Problem::ElementType { .. })
    });
}

#[test]
fn plain_names_mean_the_same_on_every_system() {
    for name in
        ["model.onnx_data", "model.onnx.data", "model_q4.onnx_data_1", "onnx__MatMul_3333", "a", ".data", "-"]
    {
        assert!(is_plain_name(name), "{name}");
    }
    let longest = "a".repeat(100);
    assert!(is_plain_name(&longest));
    for name in
        ["", ".", "..", "a/b", "a\\b", "a:b", "aux", "AUX.data", "com0", "a b", "a.", &(longest + "a")]
    {
        assert!(!is_plain_name(name), "{name}");
    }
}
