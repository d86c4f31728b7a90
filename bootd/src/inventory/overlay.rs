//! How overlays add to a node: a field that is set stays, and the first overlay that has it sets it. Pure.

use std::sync::Arc;

use bootd_sdk::wire::{Node, Overlay};

/// A node with what these overlays add to it, in their order. The same node when they add nothing.
pub(super) fn with_overlays<'a>(node: &Arc<Node>, overlays: impl Iterator<Item = &'a Arc<Overlay>>) -> Arc<Node> {
    let mut node = Arc::clone(node);
    for overlay in overlays {
        if adds(overlay, &node) {
            add(overlay, Arc::make_mut(&mut node));
        }
    }
    node
}

fn adds(overlay: &Overlay, node: &Node) -> bool {
    (node.name.is_empty() && !overlay.name.is_empty())
        || (node.boot.loader.is_none() && overlay.boot.loader.is_some())
        || (node.boot.script.is_none() && overlay.boot.script.is_some())
        || overlay.options.keys().any(|code| !node.options.contains_key(code))
}

fn add(overlay: &Overlay, node: &mut Node) {
    if node.name.is_empty() {
        node.name.clone_from(&overlay.name);
    }
    for (field, added) in [
        (&mut node.boot.loader, &overlay.boot.loader),
        (&mut node.boot.script, &overlay.boot.script),
    ] {
        if field.is_none() {
            field.clone_from(added);
        }
    }
    for (code, value) in &overlay.options {
        node.options.entry(*code).or_insert_with(|| value.clone());
    }
}
