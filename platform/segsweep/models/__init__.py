"""Networks, decomposed into backbones, necks and heads; methods put them together."""
