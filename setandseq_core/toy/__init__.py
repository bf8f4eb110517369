"""The embedded model and its world.

looks, world       sprites, their motions, captions, scenes and pixels
text               prompts as tokens, without weights
vae                the embedded VAE's sizes, and clips through it at once
model              the embedded model as a backbone, and the method's settings for it
concepts           clips that the world has no words for
backdrop, sprites, detectors, accuracy   what a clip shows, and how often that is read right
metrics            generated clips beside the concept's clip
quality            how good the embedded model is
train_vae, train_transformer, release    how its weights are made
"""
