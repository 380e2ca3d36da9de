import torch

from cytodino.modeling.classifier import CytoDino, count_parameters
from cytodino.modeling.head import DecoderHead
from cytodino.modeling.preprocessing import Preprocess


def test_forward_is_preprocessing_and_then_classification(classifier, crops):
    crops = torch.from_numpy(crops)
    with torch.inference_mode():
        logits = classifier(crops)
        assert torch.equal(logits, classifier.classify(classifier.preprocess(crops)))
    assert logits.shape == (3, 21)
    assert logits.std(dim=0).min() > 0


def test_evaluation_repeats_itself_to_the_bit(classifier, crops):
    crops = torch.from_numpy(crops)
    with torch.inference_mode():
        assert torch.equal(classifier(crops), classifier(crops))


def test_parameters_are_counted_by_whether_they_train(backbone):
    backbone.model.requires_grad_(False)
    model = CytoDino(backbone.model, DecoderHead(32, layers=1), Preprocess(32))
    trained, total = count_parameters(model)
    assert trained == sum(p.numel() for p in model.head.parameters())
    assert total == trained + sum(p.numel() for p in backbone.model.parameters())
