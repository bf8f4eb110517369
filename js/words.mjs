// @ts-check
// The texts that our widgets show, in the interface's language. English is in the code; a text that another language's
// table lacks stays English.

/** @type {Record<string, string>} */
const FRENCH = {
  // Concept card
  "Concept": "Concept",
  "No concept yet. Run the template \"0 Start here\" (in Browse Templates): it saves one. Or put a shared file into models/dynamic_concepts and press R to refresh this list.":
    "Pas encore de concept. Lancez le modèle de workflow « 0 Start here » (Parcourir les modèles) : il en enregistre un. Ou placez un fichier reçu dans models/dynamic_concepts et appuyez sur R pour actualiser la liste.",
  "Choose a concept in the list above: this card shows what is in it.":
    "Choisissez un concept dans la liste ci-dessus : cette fiche montre ce qu'il contient.",
  "The server answers {0}. Restart ComfyUI.": "Le serveur répond {0}. Redémarrez ComfyUI.",
  "The server does not answer. Is ComfyUI running?": "Le serveur ne répond pas. ComfyUI est-il lancé ?",
  "for {0}": "pour {0}",
  "rank {0}": "rang {0}",
  "{0} steps look": "{0} pas pour l'apparence",
  "{0} steps motion": "{0} pas pour le mouvement",
  "stopped early": "arrêté avant la fin",
  "{0} frames {1}": "{0} images {1}",
  "{0} at {1} fps": "{0} à {1} images/s",
  "It was not made for the connected model: load {0}.": "Il n'a pas été fait pour le modèle connecté : chargez {0}.",
  "The clip it was learned from: {0}": "Le clip dont il a été appris : {0}",
  "look": "apparence",
  "look and motion": "apparence et mouvement",
  "Copy the token": "Copier le jeton",
  "Copy the prompt: {0}": "Copier le prompt : {0}",
  "to prompt": "vers le prompt",
  "Put it into the selected text node, or else into the one that the sampler uses":
    "Le mettre dans le nœud de texte sélectionné, sinon dans celui de l'échantillonneur",
  "Put the prompt into a text node: {0}": "Mettre le prompt dans un nœud de texte : {0}",
  "Copied": "Copié",
  "Not copied": "Non copié",
  "The browser does not allow it here. Use \"to prompt\" instead.":
    "Le navigateur ne le permet pas ici. Utilisez plutôt « vers le prompt ».",
  "No text node": "Aucun nœud de texte",
  "Add CLIP Text Encode, or connect a prompt output of this node to its text input.":
    "Ajoutez CLIP Text Encode, ou connectez une sortie de prompt de ce nœud à son entrée de texte.",
  "Written into {0}": "Écrit dans {0}",
  "Change the words around the tokens. Ctrl+Z takes it back.": "Changez les mots autour des jetons. Ctrl+Z annule.",
  // Strength pad
  "Strength pad": "Pavé des forces",
  "Identity and motion strength": "Force de l'identité et du mouvement",
  "two-dimensional slider": "curseur à deux dimensions",
  "Presets": "Préréglages",
  "identity": "identité",
  "motion": "mouvement",
  "identity {0}, motion {1}": "identité {0}, mouvement {1}",
  "{0} ({1} by wire)": "{0} ({1} par un lien)",
  "off": "aucune",
  "identity only": "identité seule",
  "as trained": "comme appris",
  "exaggerated": "exagéré",
  "As if no concept were there": "Comme sans concept",
  "The look, without its movement": "L'apparence, sans son mouvement",
  "As it was learned": "Comme il a été appris",
  "The look, and more of its movement": "L'apparence, et davantage de son mouvement",
  // Prompt check
  "Prompt check": "Vérification des prompts",
  "[v] is how it looks, [u] how it moves.": "[v] est son apparence, [u] son mouvement.",
  "good:": "bien :",
  "to do:": "à faire :",
  "{0} by wire: not checked here.": "{0} par un lien : pas de vérification ici.",
  "Static prompt: how it looks, such as: a [v] dancer in a red dress.":
    "Prompt statique : l'apparence, par exemple : a [v] dancer in a red dress.",
  "Static prompt: no token. Write [v] before the word for the thing.":
    "Prompt statique : pas de jeton. Écrivez [v] devant le mot qui nomme la chose.",
  "Look: {0} calls it. What else is named can be changed later.":
    "Apparence : {0} l'appelle. Le reste, s'il est nommé, pourra être changé.",
  "Motion prompt: the static prompt again, and the movement: ... [u] spinning.":
    "Prompt de mouvement : encore le prompt statique, et le mouvement : ... [u] spinning.",
  "Motion prompt: {0} is missing. It needs both tokens.": "Prompt de mouvement : {0} manque. Il faut les deux jetons.",
  "Motion prompt: it leaves out \"{0}\". Say the look in both.":
    "Prompt de mouvement : il omet « {0} ». Dites l'apparence dans les deux.",
  "Motion prompt: no movement. Add how it moves: [u] spinning.":
    "Prompt de mouvement : pas de mouvement. Ajoutez-le : [u] spinning.",
  "Motion prompt: no token. Write [u] before \"{0}\".": "Prompt de mouvement : pas de jeton. Écrivez [u] devant « {0} ».",
  "Movement: {0} calls it: {1}.": "Mouvement : {0} l'appelle : {1}.",
  "Length: {0} of {1} words.": "Longueur : {0} mots sur {1}.",
  "Length: an estimated {0} of {1} tokens.": "Longueur : environ {0} jetons sur {1}.",
  "{0} Shorten the prompt.": "{0} Raccourcissez le prompt.",
  // Training panel
  "Training": "Entraînement",
  "Losses, time left and sample videos appear here while this node trains.":
    "Pertes, temps restant et vidéos d'essai s'affichent ici pendant l'entraînement.",
  "Set stage": "Étape 1, l'apparence",
  "Sequence stage": "Étape 2, le mouvement",
  "{0}: step {1} of {2}": "{0} : pas {1} sur {2}",
  "{0}: getting ready ...": "{0} : préparation ...",
  "{0}, {1} left": "{0}, encore {1}",
  "{0}, stopping ...": "{0}, arrêt ...",
  "finished": "terminé",
  "stopped, what was learned is kept": "arrêté, ce qui a été appris est gardé",
  "stopped; run again to go on from here": "arrêté ; relancez pour continuer d'ici",
  "ended by an error": "terminé par une erreur",
  "Training steps": "Pas d'entraînement",
  "loss, smoothed": "perte, lissée",
  "validation: fixed noise": "validation : bruit fixe",
  "Stop and keep": "Arrêter et garder",
  "Ends this stage now, keeps what was learned, and goes on with the next node":
    "Termine cette étape, garde ce qui a été appris et passe au nœud suivant",
  "Stop": "Arrêter",
  "Cancels; run again to go on from here": "Annule ; relancez pour continuer d'ici",
  "Your clip": "Votre clip",
  "Sample at step {0}": "Essai au pas {0}",
  "{0} steps": "{0} pas",
  "It is learning: the validation loss is down {0} %.": "Il apprend : la perte de validation a baissé de {0} %.",
  "The validation loss has not fallen yet.": "La perte de validation n'a pas encore baissé.",
  "The validation loss rises again: fewer steps or a lower learning rate may do better.":
    "La perte de validation remonte : moins de pas ou un taux plus bas feraient mieux.",
  "Loss curve, empty so far": "Courbe de perte, encore vide",
  "Loss curve: {0} at the start, {1} now": "Courbe de perte : {0} au début, {1} maintenant",
  "{0}; validation {1}, now {2}": "{0} ; validation {1}, maintenant {2}",
};
/** @type {Record<string, Record<string, string>>} */
export const TABLES = { fr: FRENCH };
let language = () => "en";

/**
 * Where the interface's language is asked for.
 * @param {() => string} ask such as "fr"
 */
export function speak(ask) {
  language = ask;
}

/**
 * A text in the interface's language, with values in the places {0}, {1} ...
 * @param {string} text in English
 * @param {...(string | number)} values
 */
export function say(text, ...values) {
  const found = TABLES[language()]?.[text] ?? text;
  return found.replace(/\{(\d)\}/g, (place, index) => String(values[Number(index)] ?? place));
}
