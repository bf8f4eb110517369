// @ts-check
// The texts that our widgets show, in the interface's language. The code holds the English texts; a text that is missing
// in another language's table stays English.

/** @type {Record<string, string>} */
const FRENCH = {
  // Concept card
  "Concept": "Concept",
  "No concepts yet. Run the template \"0 Start here\" from Browse Templates, or put a shared file into models/dynamic_concepts and press R.":
    "Pas encore de concept. Lancez le modèle de workflow « 0 Start here » (Parcourir les modèles), ou placez un fichier partagé dans models/dynamic_concepts et appuyez sur R.",
  "Choose a concept in the list above to see it here.":
    "Choisissez un concept dans la liste ci-dessus pour le voir ici.",
  "The server answers {0}. Restart ComfyUI.": "Le serveur répond {0}. Redémarrez ComfyUI.",
  "The server does not answer. Is ComfyUI running?": "Le serveur ne répond pas. ComfyUI est-il lancé ?",
  "for {0}": "pour {0}",
  "rank {0}": "rang {0}",
  "look: {0} steps": "apparence : {0} pas",
  "motion: {0} steps": "mouvement : {0} pas",
  "high noise": "bruit fort",
  "low noise": "bruit faible",
  "{0} ({1})": "{0} ({1})",
  "{0} ({1}): {2}": "{0} ({1}) : {2}",
  "stopped early": "arrêté avant la fin",
  "{0} frames {1}": "{0} images {1}",
  "{0} at {1} fps": "{0} à {1} images/s",
  "This concept was made for a different model. Load {0}.": "Ce concept a été entraîné pour un autre modèle. Chargez {0}.",
  "The clip it was trained on: {0}": "Le clip qui a servi à l'entraînement : {0}",
  "look": "apparence",
  "look and motion": "apparence et mouvement",
  "Copy the token": "Copier le jeton",
  "Copy the prompt: {0}": "Copier le prompt : {0}",
  "to prompt": "vers le prompt",
  "Writes it into the selected text node, or into the sampler's prompt if none is selected":
    "L'insère dans le nœud de texte sélectionné ou, à défaut, dans le prompt de l'échantillonneur",
  "Write the prompt into a text node: {0}": "Écrire le prompt dans un nœud de texte : {0}",
  "Copied": "Copié",
  "Not copied": "Copie impossible",
  "The browser blocks copying here. Use \"to prompt\" instead.":
    "Le navigateur interdit la copie ici. Utilisez plutôt « vers le prompt ».",
  "No text node": "Aucun nœud de texte",
  "Add CLIP Text Encode, or connect a prompt output of this node to its text input.":
    "Ajoutez CLIP Text Encode, ou connectez une sortie de prompt de ce nœud à son entrée de texte.",
  "Written into {0}": "Écrit dans {0}",
  "Change the words around the tokens. Press Ctrl+Z to undo.":
    "Changez les mots autour des jetons. Ctrl+Z pour annuler.",
  "{0} is newer.": "{0} est plus récent.",
  "Use it": "L'utiliser",
  // Picker
  "Browse": "Parcourir",
  "All concepts with their pictures": "Tous les concepts avec leurs images",
  "Concepts": "Concepts",
  "Choose a concept": "Choisir un concept",
  "Search concepts": "Chercher un concept",
  "Search {0} concepts": "Chercher parmi {0} concepts",
  "No concept has this in its name.": "Aucun concept n'a cela dans son nom.",
  "Close": "Fermer",
  "version {0}": "version {0}",
  "cannot be read": "illisible",
  // Tokens
  "Token check": "Vérification des jetons",
  "{0} and {1} share {2}, so the prompt cannot tell them apart. Train one of them with other tokens.":
    "{0} et {1} partagent {2} : le prompt ne peut pas les distinguer. Entraînez l'un des deux avec d'autres jetons.",
  "{0} has {1}, which no concept on this wire knows.": "{0} contient {1}, qu'aucun concept sur ce lien ne connaît.",
  "{0} lacks {1}: without its token, {2} hardly shows.": "Il manque {1} dans {0} : sans son jeton, {2} ne se voit guère.",
  // Strength pad
  "Strength pad": "Pavé des forces",
  "Look and motion strength": "Force de l'apparence et du mouvement",
  "two-dimensional slider": "curseur à deux dimensions",
  "Presets": "Préréglages",
  "motion": "mouvement",
  "look {0}, motion {1}": "apparence {0}, mouvement {1}",
  "{0} ({1} set by a link)": "{0} ({1} : fixé par un lien)",
  "off": "désactivé",
  "look only": "apparence seule",
  "as trained": "comme à l'entraînement",
  "exaggerated": "exagéré",
  "As if the node were not there": "Comme si le nœud n'était pas là",
  "The look, without its motion": "L'apparence, sans son mouvement",
  "The look and motion of the clip": "L'apparence et le mouvement du clip",
  "The look, with more of its motion": "L'apparence, avec plus de mouvement",
  // Prompt check
  "Prompt check": "Vérification des prompts",
  "good:": "correct :",
  "to do:": "à faire :",
  "not checked:": "non vérifié :",
  "Add {0}": "Ajouter {0}",
  "Repeat it": "Le répéter",
  "{0}: set by a link, so not checked here.": "{0} : reçu par un lien, donc non vérifié ici.",
  "Look prompt: describe the look, such as: a [v] dancer in a red dress.":
    "Prompt d'apparence : décrivez l'apparence, par exemple : a [v] dancer in a red dress.",
  "Look prompt: add [v] before the subject, or the model has no word for your concept.":
    "Prompt d'apparence : ajoutez [v] devant le sujet, sinon le modèle n'a pas de mot pour votre concept.",
  "Look: {0} stands for it.": "Apparence : {0} la désigne.",
  "Motion prompt: repeat the look prompt and add the motion: ... [u] spinning.":
    "Prompt de mouvement : répétez le prompt d'apparence et ajoutez le mouvement : ... [u] spinning.",
  "Motion prompt: {0} is missing. It needs both tokens.": "Prompt de mouvement : il manque {0}. Les deux jetons sont nécessaires.",
  "Motion prompt: it leaves out \"{0}\". Describe the look in both prompts.":
    "Prompt de mouvement : il omet « {0} ». Décrivez l'apparence dans les deux prompts.",
  "Motion prompt: add the motion, such as: [u] spinning.":
    "Prompt de mouvement : ajoutez le mouvement, par exemple : [u] spinning.",
  "Motion prompt: add [u] before \"{0}\".": "Prompt de mouvement : ajoutez [u] devant « {0} ».",
  "Motion: {0} stands for \"{1}\".": "Mouvement : {0} désigne « {1} ».",
  "Length: {0} of {1} words.": "Longueur : {0} mots sur {1}.",
  "Length: about {0} of {1} tokens.": "Longueur : environ {0} jetons sur {1}.",
  "{0} Shorten the prompt.": "{0} Raccourcissez le prompt.",
  // Kept trainings
  "Remove kept trainings": "Supprimer les entraînements conservés",
  "Kept trainings take {0} MiB in {1}. Concepts are not removed, but a removed training cannot be resumed.":
    "Les entraînements conservés occupent {0} Mio dans {1}. Les concepts restent ; un entraînement supprimé ne peut pas être repris.",
  "{0} MiB removed": "{0} Mio supprimés",
  // Clip
  "Clip": "Clip",
  "Start": "Début",
  "End": "Fin",
  "The clip that is learned from": "Le clip qui sert à l'entraînement",
  "Choose a video…": "Choisir une vidéo…",
  "Uploading…": "Envoi…",
  "Video file": "Fichier vidéo",
  "Uploads a video and connects it. A Load Video node is added if there is none":
    "Envoie une vidéo et la connecte. Un nœud Load Video est ajouté s'il n'y en a pas",
  "{0} is not a video. Choose an mp4, mov, webm, mkv or gif file.":
    "{0} n'est pas une vidéo. Choisissez un fichier mp4, mov, webm, mkv ou gif.",
  "The file is too large to upload. Cut it to a few seconds, or put it into ComfyUI's folder input and press R.":
    "Le fichier est trop grand pour être envoyé. Coupez-le à quelques secondes, ou placez-le dans le dossier input de ComfyUI et appuyez sur R.",
  "The server refused the file ({0}). Put it into ComfyUI's folder input, press R and choose it in Load Video.":
    "Le serveur a refusé le fichier ({0}). Placez-le dans le dossier input de ComfyUI, appuyez sur R et choisissez-le dans Load Video.",
  "There is no {0} on the server yet. Choose a video.": "Il n'y a pas encore de {0} sur le serveur. Choisissez une vidéo.",
  "Choose a video, or connect Load Video.": "Choisissez une vidéo, ou connectez Load Video.",
  "The browser cannot show this file. You can still train on it.":
    "Le navigateur ne peut pas montrer ce fichier. L'entraînement reste possible.",
  "The clip can be shown here only if it comes straight from Load Video.":
    "Le clip ne peut être montré ici que s'il vient directement de Load Video.",
  "Trains on {0} of {1}, {2} frames at {3} fps": "Entraîne sur {0} de {1}, {2} images à {3} images/s",
  "The central {0} of the picture; what is outside the frame is cut off.":
    "Le centre {0} de l'image ; ce qui est hors du cadre est coupé.",
  "{0} to {1} of {2} s": "{0} à {1} sur {2} s",
  // Training panel
  "Training": "Entraînement",
  "Loss and sample videos appear here while it trains.":
    "La perte et les vidéos d'essai s'affichent ici pendant l'entraînement.",
  "Learning the look": "Apprentissage de l'apparence",
  "Learning the motion": "Apprentissage du mouvement",
  "{0}: step {1} of {2}": "{0} : pas {1} sur {2}",
  "{0}: getting ready ...": "{0} : préparation ...",
  "{0}, {1} left": "{0}, encore {1}",
  "{0}, stopping ...": "{0}, arrêt ...",
  "finished": "terminé",
  "finished early": "terminé plus tôt",
  "paused; run again to resume": "en pause ; relancez pour reprendre",
  "failed": "échec",
  "Training steps": "Pas d'entraînement",
  "loss, smoothed": "perte, lissée",
  "validation: fixed noise": "validation : bruit fixe",
  "Finish now": "Terminer",
  "Ends this stage, keeps what was learned and continues": "Termine cette étape, garde ce qui est appris et passe à la suite",
  "Pause": "Pause",
  "Stops the run. Run again to resume from here": "Arrête l'exécution. Relancez-la pour reprendre d'ici",
  "Train more": "Entraîner encore",
  "Adds half as many steps and runs again, resuming from here": "Ajoute moitié plus de pas et relance, à partir de ce qui est appris",
  "Samples": "Essais",
  "Click to enlarge": "Cliquez pour agrandir",
  "Your clip": "Votre clip",
  "Sample at step {0}": "Essai au pas {0}",
  "{0} steps": "{0} pas",
  "It is learning: the validation loss fell by {0} %.": "Il apprend : la perte de validation a baissé de {0} %.",
  "The validation loss has not fallen yet.": "La perte de validation n'a pas encore baissé.",
  "The validation loss is rising again. Fewer steps or a lower learning rate may work better.":
    "La perte de validation remonte. Moins de pas ou un taux d'apprentissage plus bas donneraient peut-être un meilleur résultat.",
  "Loss curve: no steps yet": "Courbe de perte : aucun pas pour l'instant",
  "Loss curve: {0} at the start, {1} now": "Courbe de perte : {0} au début, {1} maintenant",
  "{0}; validation {1}, now {2}": "{0} ; validation {1}, maintenant {2}",
};
/** @type {Record<string, Record<string, string>>} */
export const TABLES = { fr: FRENCH };
let language = () => "en";

/**
 * Set the function that tells the interface's language.
 * @param {() => string} ask such as "fr"
 */
export function speak(ask) {
  language = ask;
}

/**
 * A text in the interface's language, with values in place of {0}, {1} ...
 * @param {string} text in English
 * @param {...(string | number)} values
 */
export function say(text, ...values) {
  const found = TABLES[language()]?.[text] ?? text;
  return found.replace(/\{(\d)\}/g, (place, index) => String(values[Number(index)] ?? place));
}
