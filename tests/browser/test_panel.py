"""The training panel on the train nodes, in a real browser."""

from tools.interface import Ui


def test_both_train_nodes_have_a_panel(ui: Ui) -> None:
    for node_type in ("SetSeq_TrainIdentityLoRA", "SetSeq_TrainMotionResidual"):
        ui.load({"version": 0.4, "nodes": [], "links": []})
        ui.add(node_type)
        ui.region("Training").wait_for()
        assert all("training_panel" not in node["inputs"] for node in ui.prompt().values())
        assert all(len(node["widgets_values"]) == len(ui.widgets(node["id"])) - 1 for node in ui.saved()["nodes"])
