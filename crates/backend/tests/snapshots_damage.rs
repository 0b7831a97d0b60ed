//! KV snapshots in doubt: damaged, lost, exchanged, of another model or from elsewhere. None of it comes back.

#[path = "support/files.rs"]
mod files;
#[path = "support/snapshots.rs"]
mod snapshots;

use std::path::PathBuf;

use backend::ReuseLimit;
use backend::snapshots::{Doubt, Saved};
use engine::{KvLayout, KvTensor};
use files::files_below;
use snapshots::{Folder, block, layout, load, load_tail, model, rest, save, text};

#[test]
fn a_damaged_tail_is_told_and_destroyed() {
    let folder = Folder::new();
    let mut snapshots = folder.open();
    let tokens = text(1, 0);
    let chain = snapshots.chain(&model(1), &tokens);
    snapshots.save_tail("a", &model(1), &chain, &rest(&tokens)).expect("written");
    let file = folder.files().remove(0);
    let kept = std::fs::read(&file).expect("read");
    for place in 0..kept.len() {
        for damaged in
            [[&kept[..place], &[kept[place] ^ 16], &kept[place + 1..]].concat(), kept[..place].to_vec()]
        {
            std::fs::write(&file, &damaged).expect("written");
            assert_eq!(load_tail(&mut snapshots, "a", &tokens), Some(Err(Doubt::Damaged)), "byte {place}");
            assert_eq!(load_tail(&mut snapshots, "a", &tokens), None);
            snapshots.save_tail("a", &model(1), &chain, &rest(&tokens)).expect("written");
        }
        std::fs::write(&file, &kept).expect("written");
    }
    assert_eq!(load_tail(&mut snapshots, "a", &tokens), Some(Ok(rest(&tokens))));
}

#[test]
fn another_model_or_layout_or_place_is_refused_with_its_reason() {
    let folder = Folder::new();
    let mut snapshots = folder.open();
    let (one, two) = (text(1, 2), text(2, 2));
    save(&mut snapshots, "a", &model(1), &one);
    let found = snapshots.find(&model(2), &one);
    assert_eq!((found.blocks(), found.limit), (0, Some(ReuseLimit::OtherModel)));
    assert_eq!(snapshots.find(&model(1), &two).limit, None, "nobody has ever read it");
    let found = snapshots.find(&model(1), &one);
    let mut other = layout();
    other.tensors.swap_remove(0);
    other.tensors[0].head_size *= 2;
    assert_eq!(snapshots.read(&found, 0, &one, &other), Err(Doubt::Damaged), "its header is shorter");
    assert_eq!(snapshots.usage().blocks, 1, "what is in doubt is destroyed");
    save(&mut snapshots, "a", &model(1), &one);
    save(&mut snapshots, "b", &model(2), &two);
    let halves = KvLayout { tensors: layout().tensors.into_iter().rev().map(turned).collect() };
    let found = snapshots.find(&model(1), &one);
    assert_eq!(snapshots.read(&found, 1, &one, &halves), Err(Doubt::OtherLayout));
    // The digest over what was asked for leads to the file, and its tokens are compared all the same.
    assert_eq!(snapshots.read(&found, 0, &two, &layout()), Err(Doubt::OtherTokens));
}

/// As many bytes in another order.
fn turned(tensor: KvTensor) -> KvTensor {
    KvTensor { heads: tensor.head_size, head_size: tensor.heads, ..tensor }
}

#[test]
fn files_that_changed_places_between_conversations_and_models_are_refused() {
    let folder = Folder::new();
    let (one, two) = (text(1, 2), text(2, 2));
    {
        let mut snapshots = folder.open();
        save(&mut snapshots, "a", &model(1), &one);
        save(&mut snapshots, "a", &model(2), &one);
        save(&mut snapshots, "b", &model(1), &two);
    }
    let files = folder.files();
    assert_eq!(files.len(), 6);
    let kept: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("read")).collect();
    for turn in 1..files.len() {
        for (place, file) in files.iter().enumerate() {
            std::fs::write(file, &kept[(place + turn) % files.len()]).expect("written");
        }
        let mut snapshots = folder.open();
        for (model, tokens) in [(model(1), &one), (model(2), &one), (model(1), &two)] {
            let (blocks, doubt) = load(&mut snapshots, &model, tokens);
            assert!(blocks.is_empty(), "turned by {turn}");
            assert!(matches!(doubt, Some(Doubt::OtherModel | Doubt::OtherTokens)), "{doubt:?}");
        }
        assert_eq!(snapshots.usage().blocks, 3, "the first block of each was destroyed");
        drop(snapshots);
        for (file, bytes) in files.iter().zip(&kept) {
            std::fs::write(file, bytes).expect("written");
        }
        // Their owners still have them in their lists.
        let mut snapshots = folder.open();
        assert_eq!(load(&mut snapshots, &model(1), &one).0.len(), 2);
    }
}

#[test]
fn blocks_of_another_folder_are_none_of_this_one() {
    let (ours, theirs) = (Folder::new(), Folder::new());
    let tokens = text(1, 1);
    save(&mut ours.open(), "a", &model(1), &tokens);
    save(&mut theirs.open(), "a", &model(1), &tokens);
    let theirs = std::fs::read(&theirs.files()[0]).expect("read");
    std::fs::write(&ours.files()[0], theirs).expect("written");
    assert_eq!(load(&mut ours.open(), &model(1), &tokens).1, Some(Doubt::Damaged));
}

#[test]
fn twenty_thousand_bit_flips_and_truncations_never_give_another_block() {
    let folder = Folder::new();
    let tokens = text(1, 2);
    let mut snapshots = folder.open();
    save(&mut snapshots, "a", &model(1), &tokens);
    let files = folder.files();
    let kept: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("read")).collect();
    let expected = [block(&tokens, 0), block(&tokens, 1)];
    let mut state = 20_260_101_u64;
    let mut next = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut damaged = 0;
    for round in 0..20_000 {
        let which = round % files.len();
        let mut bytes = kept[which].clone();
        match round % 10 {
            0 => bytes.truncate(next(bytes.len())),
            1 => bytes.extend_from_slice(&kept[which][..=next(64)]),
            _ => bytes[next(kept[which].len())] ^= 1 << next(8),
        }
        std::fs::write(&files[which], &bytes).expect("written");
        let (blocks, doubt) = load(&mut snapshots, &model(1), &tokens);
        assert_eq!(doubt, Some(Doubt::Damaged), "round {round}");
        assert_eq!(blocks.as_slice(), &expected[..blocks.len()], "round {round}");
        damaged += 1;
        assert!(snapshots.usage().blocks < 2, "round {round}: the damaged block is gone");
        // The next reply saves what is missing.
        save(&mut snapshots, "a", &model(1), &tokens);
        assert_eq!(snapshots.usage().blocks, 2);
    }
    assert_eq!(damaged, 20_000);
    assert_eq!(load(&mut snapshots, &model(1), &tokens).0, expected);
}

#[test]
fn a_lost_key_voids_the_blocks_and_damages_nothing() {
    for damage in [&b""[..], b"short", &[7; 33]] {
        let folder = Folder::new();
        let tokens = text(1, 2);
        save(&mut folder.open(), "a", &model(1), &tokens);
        std::fs::write(folder.path().join("key"), damage).expect("written");
        let mut snapshots = folder.open();
        assert_eq!(snapshots.find(&model(1), &tokens).blocks(), 0);
        assert_eq!(snapshots.usage().blocks, 0, "nobody could forget the old ones");
        assert_eq!(folder.files(), Vec::<PathBuf>::new());
        assert_eq!(save(&mut snapshots, "a", &model(1), &tokens), [Saved::Written; 2]);
        assert_eq!(load(&mut snapshots, &model(1), &tokens).0.len(), 2);
    }
}

#[test]
fn what_nobody_owns_or_finished_is_destroyed_at_the_next_start() {
    let folder = Folder::new();
    let tokens = text(1, 2);
    save(&mut folder.open(), "a", &model(1), &tokens);
    save(&mut folder.open(), "b", &model(1), &text(2, 1));
    let unfinished = folder.files()[0].with_file_name(".tmpAbCdEf");
    std::fs::write(&unfinished, b"half").expect("written");
    let lists = files_below(&folder.path().join("owners"));
    assert_eq!(lists.len(), 2);
    for list in &lists {
        let text = std::fs::read_to_string(list).expect("text");
        if text.lines().filter(|line| !line.is_empty()).count() == 1 {
            std::fs::write(list, "not a block\n\u{0}\n").expect("written");
        }
    }
    let mut snapshots = folder.open();
    assert!(!unfinished.exists());
    assert_eq!(snapshots.usage().blocks, 2, "the block whose list was damaged has no owner");
    assert_eq!(load(&mut snapshots, &model(1), &tokens).0.len(), 2);
}

#[cfg(unix)]
#[test]
fn what_lies_behind_a_link_stays_and_is_none_of_the_blocks() {
    let folder = Folder::new();
    let tokens = text(1, 2);
    save(&mut folder.open(), "a", &model(1), &tokens);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let (linked, moved) = (folder.path().join(model(1).to_string()), elsewhere.path().join("moved"));
    std::fs::rename(&linked, &moved).expect("moved");
    std::fs::write(moved.join("letter.txt"), b"dear").expect("written");
    std::os::unix::fs::symlink(&moved, &linked).expect("linked");
    let mut snapshots = folder.open();
    assert_eq!(snapshots.usage().blocks, 0);
    assert_eq!(files_below(&moved).len(), 3, "two blocks and the letter");
    assert_eq!(save(&mut snapshots, "a", &model(1), &tokens), [Saved::Written; 2]);
    assert_eq!(files_below(&moved).len(), 3, "nothing is written behind it either");
    assert_eq!(folder.files().len(), 2);
}
